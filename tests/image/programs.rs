//! The build arguments for Signal and ngrok, with stand-ins of their archives served from here. Java is the real one.

use crate::container::{image, run, try_build};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

#[test]
fn signal_and_ngrok_are_in_the_image_when_asked_for_and_only_if_they_are_the_ones_meant() {
    if image().is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let signal = archive(
        folder.path(),
        "signal-cli-0.14.1/bin/signal-cli",
        "#!/bin/sh\nexec java -XshowSettings:properties -version 2>&1\n",
    );
    let ngrok = archive(folder.path(), "ngrok", "#!/bin/sh\necho the stand-in\n");
    let port = serve(vec![
        ("/signal-cli-0.14.1.tar.gz", signal.clone()),
        ("/ngrok-amd64.tgz", ngrok.clone()),
        ("/ngrok-arm64.tgz", ngrok.clone()),
    ]);
    let file = folder.path().join("programs.Dockerfile");
    fs::write(&file, programs_only()).expect("a Dockerfile");
    let built = |ngrok_hash: &str| {
        let arguments = [
            "SIGNAL_CLI_VERSION=0.14.1".to_owned(),
            format!("SIGNAL_CLI_SHA256={}", sha256(&signal)),
            format!("SIGNAL_CLI_URL=http://127.0.0.1:{port}/signal-cli-0.14.1.tar.gz"),
            format!("NGROK_URL=http://127.0.0.1:{port}/ngrok-{{arch}}.tgz"),
            format!("NGROK_SHA256={ngrok_hash}"),
        ];
        let file = file.display().to_string();
        let mut words = vec![file.as_str()];
        for argument in &arguments {
            words.extend(["--build-arg", argument]);
        }
        try_build(&words)
    };
    let refused = built(&sha256(&signal)).expect_err("ngrok has another hash");
    assert!(refused.contains("has the SHA-256"), "{refused}");

    let image = built(&sha256(&ngrok)).expect("the right hashes");
    let image = image.expect("containers can be had, as the first image shows");
    let user = ["--user", "1000:1000", "--no-healthcheck"];
    let (code, said, _) = run(&user, &image, &["signal-cli"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("java.home = /usr/lib/jvm/"), "{said}");
    let said = run(&user, &image, &["ngrok"]);
    assert_eq!((said.0, said.1.as_str()), (Some(0), "the stand-in"));
}

/// docker/Dockerfile without what takes minutes and has nothing to do with it: the stages and layers of OpenClaw and
/// clawkeeper.
fn programs_only() -> String {
    let file = include_str!("../../docker/Dockerfile");
    let (bases, rest) = file.split_once("# --- clawkeeper").expect("that stage");
    let (_, programs) = rest.split_once("# --- Programs").expect("that stage");
    let (programs, settings) = programs.split_once("\nENV ").expect("the image's settings");
    assert!(settings.contains("ENTRYPOINT"), "it is all in the end");
    let mut text = format!("{bases}# --- Programs");
    let mut left_out = 0;
    for line in programs.lines() {
        if ["openclaw", "clawkeeper"]
            .iter()
            .any(|stage| line.starts_with(&format!("COPY --from={stage} ")))
        {
            left_out += 1;
        } else {
            let _ = writeln!(text, "{line}");
        }
    }
    assert_eq!(left_out, 2);
    text
}

/// A `.tar.gz` with one program in it.
fn archive(folder: &Path, path: &str, script: &str) -> Vec<u8> {
    let program = folder.join(path);
    fs::create_dir_all(program.parent().expect("a folder")).expect("a folder");
    fs::write(&program, script).expect("a program");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a program");
    let top = path.split('/').next().expect("a name");
    let output = Command::new("tar")
        .args(["-cz", "-C"])
        .args([folder, Path::new(top)])
        .output()
        .expect("tar");
    assert!(output.status.success());
    output.stdout
}

fn sha256(bytes: &[u8]) -> String {
    let digest = hmac_sha256::Hash::hash(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Answers each of these paths, for as long as the test runs; the port.
fn serve(files: Vec<(&'static str, Vec<u8>)>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("a port").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(&stream);
            let mut request = String::new();
            while reader
                .read_line(&mut request)
                .is_ok_and(|length| length > 2)
            {}
            let path = request.split(' ').nth(1).unwrap_or_default();
            let (status, body) = match files.iter().find(|(name, _)| *name == path) {
                Some((_, body)) => ("200 OK", body.as_slice()),
                None => ("404 Not Found", &b""[..]),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            // Whoever hangs up early is not answered.
            let _ = (&stream).write_all(head.as_bytes());
            let _ = (&stream).write_all(body);
        }
    });
    port
}
