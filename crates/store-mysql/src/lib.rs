//! The store on MySQL 8.0+, Aurora and MariaDB 10.6+.
