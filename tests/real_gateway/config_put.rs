//! `config put` asks the real gateway before anything is changed.

use crate::support::cgroup::Cgroup;
use crate::support::real::{GOOD_CONFIG, NEWEST, Site, for_each_version};
use crate::support::{clawkeeper, skip};
use std::fs;
use std::io::Write as _;
use std::process::{Output, Stdio};

/// Puts a config from standard input.
fn put(site: &Site, args: &[&str], text: &str) -> Output {
    let mut command = site.command(clawkeeper());
    let mut child = command
        .args(["config", "put"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

#[test]
fn where_a_cgroup_has_no_room_for_it_the_validator_is_not_asked() {
    let Some(group) = Cgroup::new(300 << 20) else {
        return skip("no memory cgroup can be made here");
    };
    let site = Site::new(NEWEST);
    site.write_config(GOOD_CONFIG);
    let unknown = "{gateway: {mode: 'local'}, foo: 1}";
    let draft = site.file("draft");
    fs::write(&draft, unknown).expect("our file");
    let mut shell = site.command("/bin/sh");
    let put = format!("exec \"$0\" config put <{}", draft.display());
    shell.args(["-ec", &format!("{}\n{put}", group.enter())]);
    let output = shell.arg(clawkeeper()).output().expect("a shell");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let text = said(&output);
    assert!(
        text.contains("less than 400 MB of memory are free"),
        "{text}"
    );
    let now = fs::read_to_string(site.config()).expect("a config");
    assert_eq!(now, unknown, "our own rules have nothing against it");
}

fn said(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    format!("{stdout}{}", String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_gateways_own_validator_has_the_last_word() {
    for_each_version(|version| {
        let site = Site::new(version);
        site.write_config(GOOD_CONFIG);
        // Our own rules know no schema: only the gateway can refuse this.
        let unknown = "{gateway: {mode: 'local'}, foo: 1}";
        let refused = put(&site, &[], unknown);
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        let text = said(&refused);
        assert!(text.contains("the gateway refuses it: "), "{text}");
        assert!(text.contains("is as it was"), "{text}");
        let now = || fs::read_to_string(site.config()).expect("a config");
        assert_eq!(now(), GOOD_CONFIG);

        let good = "{gateway: {mode: 'local', port: 3000}} // ours\n";
        let applied = put(&site, &[], good);
        assert_eq!(applied.status.code(), Some(0), "{}", said(&applied));
        assert!(
            !said(&applied).contains("gave no verdict"),
            "{}",
            said(&applied)
        );
        assert_eq!(now(), good);

        // Includes are looked for beside the config, where the draft lies too.
        fs::write(site.state("more.json5"), "{logging: {level: 'info'}}").expect("written");
        let with_include = "{gateway: {mode: 'local'}, $include: './more.json5'}";
        let applied = put(&site, &[], with_include);
        assert_eq!(applied.status.code(), Some(0), "{}", said(&applied));
        let dangling = with_include.replace("more", "less");
        let refused = put(&site, &[], &dangling);
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        let forced = put(&site, &["--force"], unknown);
        assert_eq!(forced.status.code(), Some(0), "{}", said(&forced));
        assert_eq!(now(), unknown);
        let mut validate = site.command(clawkeeper());
        let validated = validate.args(["config", "validate"]).output();
        let validated = validated.expect("it starts");
        assert_eq!(validated.status.code(), Some(2), "{}", said(&validated));
        let text = said(&validated);
        assert!(text.contains("the gateway refuses it: "), "{text}");
        let left: Vec<_> = fs::read_dir(site.file("state"))
            .expect("listed")
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.contains("clawkeeper-new"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    });
}
