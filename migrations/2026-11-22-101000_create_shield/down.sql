DROP TABLE shield_marks;
DROP TABLE shield_tries;
