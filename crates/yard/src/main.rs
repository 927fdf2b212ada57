//! The `yard` command.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use yard::compose::{self, Schema};
use yard::config::{Config, Environment, Summary};
use yard::drivers::SHIM_COMMAND;
use yard::serve::Role;
use yard::{dev, render, run, simulate, telemetry, token};
use yard_cli::args::{Token, TokenCreate};

/// Reading, checking and storing submissions is many small allocations: this one costs half of what the C library's does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One queue in, many Ray clusters out.
#[derive(Debug, Parser)]
#[command(name = "yard", version, after_help = yard_cli::EXIT_CODES_HELP)]
struct Cli {
    #[command(flatten)]
    global: yard_cli::Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the API, the intake, the scheduler and the dispatchers (or some of them).
    Serve {
        /// The configuration file.
        #[arg(long, default_value = "yard.toml")]
        config: PathBuf,
        /// What this process does.
        #[arg(long, value_enum, value_delimiter = ',')]
        roles: Vec<Role>,
    },
    /// Bring the database's schema up to date.
    Migrate {
        /// The configuration file.
        #[arg(long, default_value = "yard.toml")]
        config: PathBuf,
    },
    /// Say what is wrong with a configuration, all at once.
    CheckConfig {
        /// The configuration file.
        #[arg(long, default_value = "yard.toml")]
        config: PathBuf,
    },
    /// Run the whole product on this machine, with nothing to install but Python 3.
    Dev(dev::Args),
    /// Say what a policy would do to a workload, in virtual time.
    Simulate(simulate::Args),
    /// Print the RayJob that a job would become on a Kubernetes cluster.
    Render(render::Args),
    #[command(name = SHIM_COMMAND, hide = true)]
    ProcessShim {
        /// The attempt's folder.
        target: std::ffi::OsString,
    },
    #[command(flatten)]
    Client(yard_cli::Command),
}

/// The exit code for a wrong configuration or a part that can't be put together.
const EXIT_SETUP: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misread(&error),
    };
    // The shim is a process per attempt: it stays small, with no runtime.
    if let Command::ProcessShim { target } = cli.command {
        return ExitCode::from(u8::try_from(yard_driver_process::shim_main(&target)).unwrap_or(1));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("can't start: {error}")),
    };
    let code = runtime.block_on(dispatch(cli));
    // Nothing that still runs in the background may hold up the end.
    runtime.shutdown_background();
    code
}

async fn dispatch(cli: Cli) -> ExitCode {
    let as_json = cli.global.json;
    match cli.command {
        Command::Serve { config, roles } => {
            let roles: BTreeSet<Role> =
                if roles.is_empty() { Role::all() } else { roles.into_iter().collect() };
            match load(&config, as_json) {
                Ok(config) => serve(&config, &roles).await,
                Err(code) => code,
            }
        }
        Command::Migrate { config } => match load(&config, as_json) {
            Ok(config) => migrate(&config, as_json).await,
            Err(code) => code,
        },
        Command::CheckConfig { config: path } => match load(&path, as_json) {
            Ok(_) if as_json => {
                println!("{}", serde_json::json!({"file": path.display().to_string(), "valid": true}));
                ExitCode::SUCCESS
            }
            Ok(config) => {
                print!("{}", Summary(&config));
                println!("the configuration is valid");
                ExitCode::SUCCESS
            }
            Err(code) => code,
        },
        Command::Dev(args) => dev::run(args).await,
        Command::Simulate(args) => ExitCode::from(simulate::run(args, &cli.global).await),
        Command::Render(args) => match load(&args.config, as_json) {
            Ok(config) => match render::run(&args, &config, &cli.global).await {
                Ok(yaml) => {
                    print!("{yaml}");
                    ExitCode::SUCCESS
                }
                Err(message) => {
                    yard_cli::Failure::new(i32::from(EXIT_SETUP), message).tell(as_json);
                    ExitCode::from(EXIT_SETUP)
                }
            },
            Err(code) => code,
        },
        Command::ProcessShim { .. } => ExitCode::FAILURE,
        Command::Client(yard_cli::Command::Token(Token::Create(args))) if args.config.is_some() => {
            first_token(&args, cli.global.json).await
        }
        Command::Client(command) => {
            ExitCode::from(u8::try_from(yard_cli::run(command, &cli.global).await).unwrap_or(1))
        }
    }
}

fn load(path: &std::path::Path, as_json: bool) -> Result<Config, ExitCode> {
    Config::load(path, &Environment::of_process()).map_err(|errors| {
        if as_json {
            eprintln!("{}", errors.to_json(EXIT_SETUP));
            return ExitCode::from(EXIT_SETUP);
        }
        fail(&errors.to_string())
    })
}

/// What is wrong with the command line, in the form that it asks for; help and version are no errors.
fn misread(error: &clap::Error) -> ExitCode {
    let as_json = std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json");
    if error.use_stderr() && as_json {
        yard_cli::Failure::new(i32::from(EXIT_SETUP), error.to_string().trim()).tell(true);
        return ExitCode::from(EXIT_SETUP);
    }
    error.exit()
}

fn fail(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(EXIT_SETUP)
}

async fn serve(config: &Config, roles: &BTreeSet<Role>) -> ExitCode {
    let metrics = match telemetry::init(&config.log) {
        Ok(metrics) => metrics,
        Err(error) => return fail(&format!("can't set up logging and metrics: {error}")),
    };
    run::serve(config, roles, metrics).await
}

/// Straight into the database. The schema is left to `yard migrate`, as a server that runs leaves it.
async fn first_token(args: &TokenCreate, json: bool) -> ExitCode {
    let Some(path) = &args.config else { return ExitCode::FAILURE };
    let config = match load(path, json) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let refuse = |message: String| {
        yard_cli::Failure::new(i32::from(EXIT_SETUP), message).tell(json);
        ExitCode::from(EXIT_SETUP)
    };
    let store = match compose::open_store(&config, Schema::of(&config)).await {
        Ok(store) => store,
        Err(error) => return refuse(format!("the store can't be opened: {error}")),
    };
    let made = match token::create(store.as_ref(), args).await {
        Ok(made) => made,
        Err(error) => return refuse(error),
    };
    match yard_cli::commands::tokens::show_made(&made, json) {
        Ok(_) => ExitCode::SUCCESS,
        Err(failure) => refuse(failure.message),
    }
}

async fn migrate(config: &Config, as_json: bool) -> ExitCode {
    match compose::open_store(config, Schema::Migrate).await {
        Ok(_) => {
            println!("the schema is up to date");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let failure = yard_cli::Failure::new(i32::from(EXIT_SETUP), format!("migration failed: {error}"));
            failure.tell(as_json);
            ExitCode::from(EXIT_SETUP)
        }
    }
}
