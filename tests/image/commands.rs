//! What a person writes after `docker run IMAGE`, into `[processes]`, or into a console.

use crate::container::{image, podman, run, text};

#[test]
fn a_command_that_is_no_gateway_runs_as_under_a_plain_init() {
    let Some(image) = image() else { return };
    let script = "tr '\\0' ' ' </proc/1/cmdline; pwd";
    let (code, out, _) = run(&[], image, &["bash", "-c", script]);
    assert_eq!(code, Some(0));
    assert!(out.starts_with("clawkeeper run -- bash -c"), "{out}");
    assert!(out.ends_with("/app"), "{out}");
    assert_eq!(run(&[], image, &["sh", "-c", "exit 7"]).0, Some(7));
    assert_eq!(run(&[], image, &["no-such-program"]).0, Some(127));
}

#[test]
fn a_terminal_is_handed_to_the_command() {
    let Some(image) = image() else { return };
    // With -t the container has a terminal even where the test has none.
    let (code, out, _) = run(
        &["--tty"],
        image,
        &[
            "bash",
            "-ic",
            "tty; ps -o stat= -p $$ 2>/dev/null || cut -d' ' -f5,8 /proc/$$/stat",
        ],
    );
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.contains("/dev/pts/") || out.contains("/dev/console"),
        "{out}"
    );
    assert!(!out.contains("no job control"), "{out}");
}

#[test]
fn the_commands_of_the_guide_are_found_from_the_working_folder() {
    let Some(image) = image() else { return };
    let version = argument("OPENCLAW_VERSION");
    for user in ["0", "1000"] {
        let options = [
            "--user",
            user,
            "--read-only",
            "--tmpfs",
            "/tmp",
            "--cap-drop",
            "ALL",
        ];
        for command in [
            &["openclaw", "--version"][..],
            &["node", "dist/index.js", "--version"],
        ] {
            let (code, out, err) = run(&options, image, command);
            assert_eq!(code, Some(0), "{command:?} as {user}: {err}");
            assert!(out.contains(&version), "{out}");
        }
        let (code, out, _) = run(&options, image, &["node", "--version"]);
        assert_eq!(
            (code, out),
            (Some(0), format!("v{}", argument("NODE_VERSION")))
        );
    }
}

#[test]
fn every_form_of_a_gateways_command_is_kept_as_a_gateway() {
    let Some(image) = image() else { return };
    let words = ["node", "dist/index.js", "gateway", "--port", "3000"];
    let line = words.join(" ");
    let forms: [&[&str]; 6] = [
        &[],
        &words,
        &["openclaw", "gateway", "--port", "3000"],
        &[
            "node",
            "--max-old-space-size=512",
            "dist/index.js",
            "gateway",
        ],
        &["sh", "-c", &line],
        &[&line],
    ];
    for form in forms {
        // No volume can be written to: it holds, which only a kept gateway does, before Node has started.
        let container = crate::container::Container::start(
            &[
                "--read-only",
                "--tmpfs",
                "/data:ro",
                "--env",
                "CLAWKEEPER_LOG_FORMAT=json",
            ],
            image,
            form,
        );
        crate::support::poll_until(crate::container::LONG, "a hold", || {
            let logs = container.logs();
            if logs.contains("holding") {
                Ok(())
            } else {
                Err(logs)
            }
        });
        assert_eq!(container.stop(crate::container::LONG), "0", "{form:?}");
    }
}

#[test]
fn the_editor_of_config_edit_is_in_the_image() {
    let Some(image) = image() else { return };
    let script = "echo '{}' >/data/openclaw.json && EDITOR= clawkeeper config edit";
    // Nobody sits at the terminal: the editor opens, and ends with it.
    let (_, out, err) = run(&[], image, &["sh", "-c", script]);
    assert!(err.contains("the editor ended with"), "{out}{err}");
}

#[test]
fn a_user_that_is_named_runs_what_is_no_gateway() {
    let Some(image) = image() else { return };
    let id = ["sh", "-c", "id -u; echo $HOME"];
    assert_eq!(run(&[], image, &id).1, "0\n/root");
    let named = ["--env", "CLAWKEEPER_USER=node"];
    assert_eq!(run(&named, image, &id).1, "1000\n/home/node");
}

#[test]
fn the_image_says_how_it_is_run() {
    let Some(image) = image() else { return };
    let said = |format: &str| text(&podman(&["inspect", "--format", format, image]).stdout);
    assert_eq!(said("{{.Config.Entrypoint}}"), "[clawkeeper run --]");
    assert_eq!(said("{{.Config.WorkingDir}}"), "/app");
    assert_eq!(said("{{.Config.StopSignal}}"), "SIGTERM");
    assert_eq!(said("{{.HealthCheck.Test}}"), "[CMD clawkeeper health]");
    let version = said("{{index .Labels \"org.opencontainers.image.version\"}}");
    assert_eq!(version, argument("OPENCLAW_VERSION"));
    assert_eq!(
        said("{{.Config.Volumes}}"),
        "map[]",
        "a forgotten -v must be told, not hidden"
    );
}

/// The default of an ARG in docker/Dockerfile.
fn argument(name: &str) -> String {
    let file = include_str!("../../docker/Dockerfile");
    let start = format!("ARG {name}=");
    let value = file.lines().find_map(|line| line.strip_prefix(&start));
    value.expect("a default").trim_matches('"').to_owned()
}
