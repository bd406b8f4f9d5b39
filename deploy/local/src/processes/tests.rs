use super::*;

fn shell(data: &Path, name: &str, script: &str) -> Spec {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Spec {
        name: name.into(),
        command,
        log: data.join(format!("{name}.log")),
        stage: Stage::Daemons,
        stop: Signal::SIGTERM,
    }
}

#[tokio::test]
async fn a_process_that_does_not_stop_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join(Register::FILE);
    let register = Register::new(list.clone());
    let process = register
        .spawn(shell(
            folder.path(),
            "deaf",
            "trap '' TERM; echo here; while :; do sleep 0.1; done",
        ))
        .unwrap();
    let traps = async {
        while process.log_tail(1) != "here" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), traps)
        .await
        .expect("it says so once it traps the signal");
    assert!(list.exists());
    register.stop_all(Duration::from_millis(200)).await;
    process.exit().await;
    assert_eq!(process.exited().unwrap().to_string(), "signal: 9 (SIGKILL)");
    assert!(!list.exists(), "a list of nothing is no file");
}

#[tokio::test]
async fn what_ended_says_how_and_its_last_words() {
    let folder = tempfile::tempdir().unwrap();
    let register = Register::new(folder.path().join(Register::FILE));
    let process = register
        .spawn(shell(folder.path(), "poet", "echo one; echo two >&2; exit 3"))
        .unwrap();
    process.exit().await;
    let obituary = process.obituary();
    assert!(obituary.contains("exit status: 3"), "{obituary}");
    assert!(obituary.ends_with("one\ntwo"), "{obituary}");
}

#[tokio::test]
async fn a_frozen_process_stops_too() {
    let folder = tempfile::tempdir().unwrap();
    let register = Register::new(folder.path().join(Register::FILE));
    let process = register
        .spawn(shell(folder.path(), "frozen", "exec sleep 60"))
        .unwrap();
    process.signal(Signal::SIGSTOP);
    process.stop(Duration::from_secs(10)).await;
    assert_eq!(process.exited().unwrap().to_string(), "signal: 15 (SIGTERM)");
}

#[tokio::test]
async fn what_a_killed_stack_left_is_stopped_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join(Register::FILE);
    let register = Register::new(list.clone());
    let left = register.spawn(shell(folder.path(), "left", "sleep 60")).unwrap();
    let other = register.spawn(shell(folder.path(), "other", "sleep 60")).unwrap();
    // As if the pid of `other` were a later process's.
    let mut running = register::Running::load(&list).unwrap();
    let text = serde_json::to_string(&running).unwrap();
    running.processes.retain(|entry| entry.name == "other");
    let started = serde_json::to_value(&running.processes[0]).unwrap()["started"].to_string();
    let text = match started.as_str() {
        // Both may start within one tick of the clock; then only `other`'s is changed by its place in the list.
        started if text.matches(started).count() > 1 => {
            let at = text.rfind(started).unwrap();
            format!("{}\"0\"{}", &text[..at], &text[at + started.len()..])
        }
        started => text.replace(started, "\"0\""),
    };
    std::fs::write(&list, text).unwrap();

    assert_eq!(
        stop_left_over(&list, Duration::from_secs(10)).await.unwrap(),
        ["left"]
    );
    left.exit().await;
    assert!(other.exited().is_none());
    other.kill().await;
}
