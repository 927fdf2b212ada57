//! Whether a database has the schema that this binary was made for.

use std::collections::BTreeMap;

use yard_ports::store::StoreError;

/// A migration that this binary brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its number.
    pub version: i64,
    /// The hash of its text.
    pub checksum: Vec<u8>,
}

/// A migration that the database has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its number.
    pub version: i64,
    /// The hash of its text.
    pub checksum: Vec<u8>,
    /// Whether it was applied to its end.
    pub success: bool,
}

/// What to say of a database that a newer binary has migrated: `unknown` is a migration that this one does not bring.
pub fn newer_schema(unknown: i64, newest: i64) -> String {
    format!(
        "the database's schema has migration {unknown}, but this binary knows only those up to {newest}: use a newer yard \
         (an older binary can't run on a newer schema)"
    )
}

/// Accepts the schema only if the database has seen exactly the migrations that this binary knows. `applied` is
/// `None` for a database without any schema of ours.
pub fn check_schema(known: &[Known], applied: Option<&[Applied]>) -> Result<(), StoreError> {
    let newest = known.iter().map(|k| k.version).max().unwrap_or(0);
    let refuse = |text: String| Err(StoreError::Schema(text));
    let Some(applied) = applied else {
        return refuse("the database has no schema yet: run `yard migrate`".to_owned());
    };
    if let Some(broken) = applied.iter().find(|a| !a.success) {
        return refuse(format!(
            "migration {} was not applied to its end: restore the database or mend the schema by hand, delete its \
             line from _sqlx_migrations, then run `yard migrate`",
            broken.version
        ));
    }
    let by_version: BTreeMap<i64, &Applied> = applied.iter().map(|a| (a.version, a)).collect();
    if let Some(unknown) = by_version.keys().find(|v| known.iter().all(|k| k.version != **v)) {
        return refuse(newer_schema(*unknown, newest));
    }
    for migration in known {
        match by_version.get(&migration.version) {
            None => {
                return refuse(format!(
                    "the database's schema lacks migration {} (this binary needs {newest}): run `yard migrate`",
                    migration.version
                ));
            }
            Some(seen) if seen.checksum != migration.checksum => {
                return refuse(format!(
                    "migration {} of the database is not the one this binary knows: it was made by another build; \
                     use that one, or a database of its own",
                    migration.version
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(versions: &[i64]) -> Vec<Known> {
        versions.iter().map(|v| Known { version: *v, checksum: vec![1] }).collect()
    }

    fn applied(versions: &[i64]) -> Vec<Applied> {
        versions.iter().map(|v| Applied { version: *v, checksum: vec![1], success: true }).collect()
    }

    #[test]
    fn only_the_very_schema_is_accepted() {
        let ours = known(&[1, 2]);
        assert!(check_schema(&ours, Some(&applied(&[1, 2]))).is_ok());
        let text = |applied: Option<&[Applied]>| check_schema(&ours, applied).unwrap_err().to_string();
        assert!(text(None).contains("yard migrate"));
        assert!(text(Some(&applied(&[1]))).contains("lacks migration 2"));
        assert!(text(Some(&applied(&[1, 2, 3]))).contains("newer yard"));
        let mut other = applied(&[1, 2]);
        other[1].checksum = vec![2];
        assert!(text(Some(&other)).contains("another build"));
        other[1].success = false;
        assert!(text(Some(&other)).contains("not applied to its end"));
    }
}
