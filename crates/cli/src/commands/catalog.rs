//! `yard apply`, `export`, `catalog`.

use std::io::{BufRead, IsTerminal, Write};

use serde_json::Value;
use yard_wire::views::{CatalogAnswer, CatalogVersionList, CatalogVersionView};

use super::{Done, print, print_json, read_file, typed};
use crate::args::{Apply, Versions};
use crate::client::Client;
use crate::exit::{self, Failure};
use crate::show;

/// Puts a document in force, after showing what changes.
pub async fn apply(args: &Apply, client: &Client, as_json: bool) -> Done {
    let text = read_file(&args.file)?;
    let dry_run = [("dry_run", "true".to_owned())];
    let seen = send(client, &text, args.expected, &dry_run).await?;
    if args.dry_run {
        return show_answer(&seen, as_json);
    }
    if !args.yes && !seen.changes.is_empty() {
        // To standard error: with --json the answer alone goes to standard output.
        eprintln!("{}", show::catalog_answer(&seen));
        confirm(args)?;
    }
    // What was shown is what is applied: if somebody was faster, it is refused.
    let answer = send(client, &text, Some(seen.version), &[]).await?;
    show_answer(&answer, as_json)
}

async fn send(
    client: &Client,
    text: &str,
    expected: Option<u64>,
    query: &[(&str, String)],
) -> Result<CatalogAnswer, Failure> {
    let expected = expected.map(|version| ("expected", version.to_string()));
    let query: Vec<_> = query.iter().cloned().chain(expected).collect();
    typed(client.put_toml(&["v1", "catalog"], &query, text.to_owned()).await?)
}

fn show_answer(answer: &CatalogAnswer, as_json: bool) -> Done {
    if as_json {
        print_json(answer)?;
    } else {
        print(&show::catalog_answer(answer));
    }
    Ok(exit::OK)
}

/// Asks on the terminal; without one, `--yes` must say it.
fn confirm(args: &Apply) -> Result<(), Failure> {
    if args.file.as_os_str() == "-" || !std::io::stdin().is_terminal() {
        let message =
            "nothing was written: there is nobody to ask here; add --yes to apply it, or --dry-run to look";
        return Err(Failure::new(exit::USAGE, message));
    }
    eprint!("apply this? [y/N] ");
    _ = std::io::stderr().flush();
    let mut answer = String::new();
    _ = std::io::stdin().lock().read_line(&mut answer);
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(exit::USAGE, "nothing was written"))
}

/// Prints the document in force, or an older one, as it was written.
pub async fn export(version: Option<u64>, client: &Client, as_json: bool) -> Done {
    let query: Vec<_> = version.map(|version| ("version", version.to_string())).into_iter().collect();
    let answer: Value = client.get(&["v1", "catalog"], &query).await?;
    let found: CatalogVersionView = typed(answer)?;
    if as_json {
        print_json(&found)?;
    } else {
        // As it is, to the last byte: it may be applied again.
        _ = std::io::stdout().write_all(found.text.unwrap_or_default().as_bytes());
    }
    Ok(exit::OK)
}

/// Lists versions.
pub async fn versions(args: &Versions, client: &Client, as_json: bool) -> Done {
    let mut query = vec![("limit", args.limit.to_string())];
    query.extend(args.before.map(|before| ("before", before.to_string())));
    let list: CatalogVersionList = typed(client.get(&["v1", "catalog", "versions"], &query).await?)?;
    if as_json {
        print_json(&list)?;
    } else {
        print(&show::catalog_versions(&list));
        if let Some(next) = list.next {
            eprintln!("older ones: --before {next}");
        }
    }
    Ok(exit::OK)
}
