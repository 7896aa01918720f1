DROP TABLE numbers;
DROP TABLE client_secrets;
DROP TABLE clients;
