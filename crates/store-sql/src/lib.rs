//! The store verbs in SQL, once, over a small connection port that the MySQL and SQLite adapters fill.
