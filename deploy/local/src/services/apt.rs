//! Installs what is missing on Debian and Ubuntu.

use std::{io::Write as _, process::Stdio, time::Duration};

use anyhow::{Context as _, bail, ensure};
use tokio::{process::Command, time::timeout};

use super::{Say, rule::Consent};

/// A slow mirror takes minutes, a dead one must not take for ever.
const TIMEOUT: Duration = Duration::from_secs(20 * 60);
/// One script, so that sudo is asked once and everything temporary is undone however it ends.
const SCRIPT: &str = include_str!("install.sh");

/// Installs `packages`.
pub(super) async fn install(packages: &[&'static str], consent: Consent, say: &Say) -> anyhow::Result<()> {
    let names = packages.join(" ");
    say.say(format!("missing on this machine: {names}"));
    if consent == Consent::Ask && !asked(&names).await? {
        bail!(
            "{names} is needed, and was not to be installed; Docker or running services will do as well (see --help)"
        );
    }
    say.say(format!(
        "installing {names} with apt-get; no system service is started"
    ));
    let mut command = match consent {
        Consent::Root => Command::new("sh"),
        Consent::Sudo => sudo(&["-n", "sh"]),
        Consent::Ask => sudo(&["sh"]),
    };
    command
        .args(["-c", SCRIPT, "install"])
        .args(packages)
        .stdin(if consent == Consent::Ask {
            Stdio::inherit()
        } else {
            Stdio::null()
        })
        // Standard output is for what `cargo run` has to say.
        .stdout(std::io::stderr())
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .with_context(|| format!("sudo cannot be run here; as root: apt-get install {names}"))?;
    let status = timeout(TIMEOUT, child.wait())
        .await
        .context("the installation takes too long")??;
    ensure!(
        status.success(),
        "{names} could not be installed ({status}). Try it yourself: sudo apt-get install {names}"
    );
    Ok(())
}

fn sudo(args: &[&str]) -> Command {
    let mut command = Command::new("sudo");
    command.args(args);
    command
}

async fn asked(names: &str) -> anyhow::Result<bool> {
    eprint!("Install {names} with apt-get (by sudo)? [Y/n] ");
    std::io::stderr().flush()?;
    // On a thread: Ctrl-C is to work while nobody answers.
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        std::io::stdin()
            .read_line(&mut answer)
            .map(|bytes| (bytes, answer))
    });
    let (bytes, answer) = answer.await??;
    Ok(bytes > 0 && matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}
