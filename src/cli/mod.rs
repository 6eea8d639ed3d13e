//! The command line: parse, call, and say what went wrong.
//!
//! Verbs for people go through the companion (`companion.rs`) to a bastion; the others run here.
//! Exit statuses: 64 usage, 69 unavailable, 75 nobody decided in time, 77 refused, 1 anything else.

mod approve;
mod ask;
mod audit;
mod backup;
pub mod bastion;
mod ca;
pub mod check;
mod clock;
mod companion;
mod complete;
mod explain;
mod export;
mod fetch;
mod inbox;
pub mod init;
mod many;
mod notify;
mod pager;
mod pen;
mod policy;
mod proof;
mod recover;
mod replay;
mod rewrap;
pub mod serve;
mod shell;
pub mod sign;
mod supervised;
mod targets;
mod terminal;
mod totp;
mod trust;
mod verify;
mod watch;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::schema::FileKind;
use crate::console::grammar::{PolicyArgs, PolicyWhat, TargetsArgs, Verb};
use crate::console::reply::RefusalKind;
use crate::console::text::{self, Voice};
use crate::console::{gather, render};
use bastion::WireError;

/// An SSH bastion that holds a session until somebody says yes, and records it
#[derive(Debug, Parser)]
#[command(name = "countersign", version, disable_help_subcommand = true, arg_required_else_help = true)]
struct Cli {
    /// The bastion, as `ssh` knows it
    #[arg(short, long, value_name = "HOST", global = true, env = "COUNTERSIGN_BASTION")]
    bastion: Option<String>,
    /// Answer as JSON
    #[arg(long, global = true)]
    json: bool,
    /// The key to sign with: a private key, or the public half of one in the agent
    #[arg(short = 'i', long, value_name = "PATH", global = true)]
    key: Option<PathBuf>,
    /// Sign without asking first
    #[arg(long, global = true)]
    yes: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try everything in a temporary directory, with a target inside
    Demo {
        /// Play the whole story by itself
        #[arg(long)]
        tour: bool,
    },
    /// Make a directory with keys, settings and starter policies
    Init {
        dir: PathBuf,
        /// The name that people will write after @
        #[arg(long, value_name = "NAME")]
        host: Option<String>,
        /// Who reads recordings: a name and an SSH or age public key, or its file; may be repeated
        #[arg(long, value_name = "NAME=KEY")]
        auditor: Vec<String>,
    },
    /// Read a directory, run its policies' own tests, and name everything that is wrong
    Check {
        #[arg(short = 'c', value_name = "DIR", required_unless_present = "schema")]
        dir: Option<PathBuf>,
        /// Print the JSON Schema of a file instead, for editors: countersign, people, targets, approvals, retention
        #[arg(long, value_name = "FILE", conflicts_with = "dir")]
        schema: Option<FileKind>,
    },
    /// Back the state of this bastion up, also while it serves, encrypted
    Backup(backup::BackupArgs),
    /// Put a backup into a new directory, with what the log says since
    Restore(backup::RestoreArgs),
    /// Say that the clock of this bastion is right, after it was blocked
    Clock {
        #[command(subcommand)]
        what: ClockWhat,
    },
    /// What targets and laptops need of this bastion's keys
    Ca {
        #[command(subcommand)]
        what: ca::CaWhat,
    },
    /// Run the bastion
    Serve {
        #[arg(short = 'c', value_name = "DIR")]
        dir: PathBuf,
        /// How the log on standard error is written
        #[arg(long, value_name = "text|json", default_value = "text", env = "COUNTERSIGN_LOG_FORMAT")]
        log: LogFormat,
    },
    /// Sign certificates for the bastion that starts it
    #[command(hide = true)]
    Pen(pen::PenArgs),
    /// Print completions for a shell
    Completions {
        #[arg(value_name = "bash|zsh|fish")]
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one for each verb
    Man { dir: PathBuf },
    /// Whether notices arrive
    Notify {
        #[command(subcommand)]
        what: notify::NotifyWhat,
    },
    /// Give persons a second factor, or take it away
    Totp {
        #[command(subcommand)]
        what: totp::Totp,
    },
    #[command(flatten)]
    Verb(Verb),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    /// One object a line
    Json,
}

#[derive(Debug, Subcommand)]
enum ClockWhat {
    /// Approvals, certificates and disposal go on
    Accept {
        #[arg(short = 'c', value_name = "DIR")]
        dir: PathBuf,
    },
}

/// Runs the command line and returns its exit status.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match parse(args) {
        Ok(cli) => cli,
        Err(status) => return ExitCode::from(status),
    };
    let as_json = cli.json;
    // One thread from its beginning: what locks the pen in counts for the thread that calls it.
    let cli = match cli.command {
        Command::Pen(args) => return ExitCode::from(pen::run(&args).unwrap_or_else(|error| complain(&error, as_json))),
        command => Cli { command, ..cli },
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ExitCode::from(complain(&anyhow::Error::from(error).context("the runtime cannot be started"), as_json)),
    };
    let status = match runtime.block_on(run(cli)) {
        Ok(status) => status,
        Err(error) => complain(&error, as_json),
    };
    // A thread that still reads the terminal must not keep the process.
    runtime.shutdown_background();
    ExitCode::from(status)
}

/// Reads the arguments; what is wrong with them has been said when this fails.
fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, u8> {
    let words: Result<Vec<String>, OsString> = args.into_iter().map(OsString::into_string).collect();
    let words = words.map_err(|word| misread(&format!("{} is not UTF-8", word.to_string_lossy()), false))?;
    let as_json = words.iter().any(|word| word == "--json");
    // An operator's own shell has cut the words already; `-c DIR` may follow the reason.
    let words = if words.get(1).is_some_and(|word| word == "targets") { words } else { gather(words) };
    let cli = Cli::try_parse_from(words).map_err(|error| {
        if error.use_stderr() {
            return misread(error.to_string().trim_start_matches("error: "), as_json);
        }
        say(&error.to_string()).err().unwrap_or(0)
    })?;
    match &cli.command {
        Command::Verb(verb) => match verb.check() {
            Ok(()) => Ok(cli),
            Err(why) => Err(misread(&why, as_json)),
        },
        Command::Demo { .. }
        | Command::Init { .. }
        | Command::Check { .. }
        | Command::Backup(_)
        | Command::Restore(_)
        | Command::Clock { .. }
        | Command::Ca { .. }
        | Command::Serve { .. }
        | Command::Pen(_)
        | Command::Completions { .. }
        | Command::Man { .. }
        | Command::Notify { .. }
        | Command::Totp { .. } => Ok(cli),
    }
}

/// Says what is wrong with the command line; its exit status.
fn misread(why: &str, as_json: bool) -> u8 {
    let status = u8::try_from(RefusalKind::Usage.status()).unwrap_or(64);
    if as_json {
        let why = why.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        say(&failure("usage", &why, status)).ok();
    }
    eprint!("{}", render::prefixed(why));
    status
}

/// An error that is none of the bastion's, as JSON of the same shape (`docs/json.md`).
fn failure(kind: &str, why: &str, status: u8) -> String {
    let error = serde_json::json!({ "kind": kind, "what": "countersign", "why": why, "next": [], "console": "" });
    render::json(&serde_json::json!({ "v": render::VERSION, "status": status, "error": error })) + "\n"
}

async fn run(cli: Cli) -> anyhow::Result<u8> {
    match cli.command {
        Command::Demo { tour } => {
            log("countersign=warn", LogFormat::Text);
            crate::demo::run(tour).await
        }
        Command::Init { dir, host, auditor } => init::run(&dir, host.as_deref(), &auditor).map(|()| 0),
        Command::Check { schema: Some(of), .. } => check::schema(of),
        Command::Check { dir, .. } => check::run(&dir.unwrap_or_default(), cli.json),
        Command::Backup(args) => backup::make(&args).await,
        Command::Restore(args) => backup::restore(&args).await,
        Command::Clock { what: ClockWhat::Accept { dir } } => clock::accept(&dir).await.map(|()| 0),
        Command::Ca { what } => ca::run(what, cli.json).await,
        Command::Serve { dir, log: format } => {
            log("countersign=info", format);
            serve::run(dir, format).await
        }
        Command::Pen(args) => pen::run(&args),
        Command::Completions { shell } => Ok(shell::completions(shell)),
        Command::Man { dir } => shell::man(&dir),
        Command::Notify { what } => notify::run(what).await.map(|()| 0),
        Command::Totp { what } => totp::run(what).map(|()| 0),
        Command::Verb(Verb::Policy(PolicyArgs { what: PolicyWhat::Test { dir } })) => policy::test(&dir, cli.json),
        Command::Verb(Verb::Policy(PolicyArgs { what: PolicyWhat::Explain(args) })) => policy::explain(&args, cli.json),
        Command::Verb(Verb::Help) => {
            use clap::CommandFactory;
            Ok(say(&Cli::command().render_help().to_string()).err().unwrap_or(0))
        }
        Command::Verb(Verb::Targets(TargetsArgs { what: Some(what) })) => targets::run(&what).await,
        Command::Verb(verb) => {
            companion::Companion { bastion: cli.bastion, json: cli.json, key: cli.key, yes: cli.yes, look: terminal::look() }
                .run(verb)
                .await
        }
    }
}

/// What the node says goes to standard error; `COUNTERSIGN_LOG` chooses, as `RUST_LOG` does elsewhere. Of the
/// libraries (but russh) only warnings pass, whatever it says: at their finest they would write down what passes through
/// them, keys and keystrokes.
fn log(usual: &str, format: LogFormat) {
    use tracing_subscriber::Layer as _;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    let filter = tracing_subscriber::EnvFilter::try_from_env("COUNTERSIGN_LOG").unwrap_or_else(|_| usual.into());
    let ours = tracing_subscriber::filter::filter_fn(|event| {
        match event.target().split("::").next() {
            Some("countersign") => true,
            // It warns of what its peers do: any stranger could fill the disk with it. `ssh` says how each ended.
            Some("russh") => false,
            _ => *event.level() <= tracing::Level::WARN,
        }
    });
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(ours)).with(filter).init();
}

/// Writes to standard output; a reader that has gone (`| head`) is no error.
fn say(text: &str) -> Result<(), u8> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(0),
        Err(_) => Err(1),
    }
}

/// Says what went wrong with all its causes, and returns the exit status for it.
fn complain(error: &anyhow::Error, as_json: bool) -> u8 {
    if let Some(WireError::Refused(refusal)) = error.downcast_ref::<WireError>() {
        if as_json {
            say(&render::refused(refusal)).ok();
        }
        eprint!("{}", text::refusal(refusal, Voice::Companion));
        return u8::try_from(refusal.kind.status()).unwrap_or(1);
    }
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    let status = status_of(error);
    if as_json {
        let kind = match status {
            64 => "usage",
            69 => "unavailable",
            77 => "refused",
            _ => "failed",
        };
        say(&failure(kind, &causes.join(": "), status)).ok();
    }
    eprint!("{}", render::prefixed(&causes.join(": ")));
    status
}

fn status_of(error: &anyhow::Error) -> u8 {
    let kind = match error.downcast_ref::<WireError>() {
        Some(WireError::NoBastion(_) | WireError::BadBastion(_) | WireError::BadSsh(_) | WireError::Settings { .. }) => RefusalKind::Usage,
        Some(WireError::Refused(refusal)) => refusal.kind,
        Some(
            WireError::Spawn { .. }
            | WireError::Gone(_)
            | WireError::Late { .. }
            | WireError::NotOurs { .. }
            | WireError::Answer(_)
            | WireError::Line { .. }
            | WireError::Write { .. },
        ) => RefusalKind::Unavailable,
        None if error.is::<approve::NotSigned>() || error.is::<sign::SignError>() => RefusalKind::Refused,
        None => return 1,
    };
    u8::try_from(kind.status()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::grammar::TargetsWhat;

    fn parsed(line: &str) -> Result<Cli, u8> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn every_verb_of_the_console_is_one_of_the_companion() {
        for line in ["countersign requests --json", "countersign -b bastion approve K7Q3FM --for 15m --yes", "countersign whoami -b b"] {
            assert!(matches!(parsed(line).unwrap().command, Command::Verb(_)), "{line}");
        }
        let Command::Verb(Verb::Deny { note, .. }) = parsed("countersign deny K7Q3FM --note not before 06:00").unwrap().command else {
            panic!()
        };
        assert_eq!(note, "not before 06:00");
    }

    #[test]
    fn targets_are_a_persons_listing_and_an_operators_files() {
        assert!(matches!(parsed("countersign targets --json").unwrap().command, Command::Verb(Verb::Targets(TargetsArgs { what: None }))));
        let line = "countersign targets pin web-1 --key k --reason made anew -c DIR";
        let Command::Verb(Verb::Targets(TargetsArgs { what: Some(TargetsWhat::Pin(args)) })) = parsed(line).unwrap().command else {
            panic!()
        };
        assert_eq!((args.reason.join(" ").as_str(), args.dir.as_path()), ("made anew", std::path::Path::new("DIR")));
        for line in ["countersign targets import - --from known_hosts -c D --dry-run", "countersign targets import x --from csv -c D"] {
            assert!(parsed(line).is_ok(), "{line}");
        }
        for line in
            ["countersign targets pin web-1 --reason x -c D", "countersign targets import - -c D", "countersign targets pin --key k"]
        {
            assert_eq!(parsed(line).unwrap_err(), 64, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_usage() {
        for line in ["countersign frobnicate", "countersign approve", "countersign request a@x b@y", "countersign serve"] {
            assert_eq!(parsed(line).unwrap_err(), 64, "{line}");
        }
        use std::os::unix::ffi::OsStringExt;
        assert_eq!(parse([OsString::from("countersign"), OsString::from_vec(vec![0xff])]).unwrap_err(), 64);
    }

    #[test]
    fn the_grammar_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
