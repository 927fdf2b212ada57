//! The store suite on MariaDB and on MySQL: each test on a database of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking")]

#[allow(dead_code, reason = "each test file uses its part of it")]
mod common;

use std::sync::Arc;

use yard_testkit::store_suite::Database;

use crate::common::Schema;

async fn fresh(variable: &str) -> Option<Arc<dyn Database>> {
    let schema = Schema::fresh(variable).await?;
    Some(Arc::new(schema))
}

mod mariadb {
    use super::*;

    async fn fresh() -> Option<Arc<dyn Database>> {
        super::fresh("YARD_TEST_MARIADB_URL").await
    }

    yard_testkit::store_suite!(super::fresh);
}

mod mysql {
    use super::*;

    async fn fresh() -> Option<Arc<dyn Database>> {
        super::fresh("YARD_TEST_MYSQL_URL").await
    }

    yard_testkit::store_suite!(super::fresh);
}
