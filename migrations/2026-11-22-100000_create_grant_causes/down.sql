DROP TABLE grant_causes;
