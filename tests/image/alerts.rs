//! The image's own poster: there, readable by everybody, and used once it is told where to post.

use crate::container::{image, run};

/// A service on loopback, and a test alert to it.
const SCRIPT: &str = r#"
node -e '
require("http").createServer((request, response) => {
  let body = "";
  request.on("data", (data) => (body += data)).on("end", () => {
    console.log("posted", request.url, JSON.parse(body).text.split("\n")[0]);
    response.end();
  });
}).listen(8099, "127.0.0.1");' &
until (exec 3<>/dev/tcp/127.0.0.1/8099) 2>/dev/null; do sleep 0.1; done
clawkeeper check | grep alerts
clawkeeper test-alert
echo "code $?"
"#;

#[test]
fn a_test_alert_is_posted_as_root_and_as_uid_1000_on_a_read_only_root() {
    let Some(image) = image() else { return };
    let webhook = "CLAWKEEPER_ALERT_WEBHOOK=http://127.0.0.1:8099/hook?key=a-secret-17";
    for user in ["0", "1000"] {
        let options = [
            "--user",
            user,
            "--read-only",
            "--tmpfs",
            "/tmp",
            "--env",
            webhook,
        ];
        let (_, out, err) = run(&options, image, &["bash", "-c", SCRIPT]);
        for part in [
            "/usr/local/lib/clawkeeper/post-alert.mjs",
            "posted /hook?key=a-secret-17 🔵",
            "code 0",
        ] {
            assert!(out.contains(part), "{part} as {user}: {out}{err}");
        }
    }
    let (_, out, _) = run(
        &[],
        image,
        &["bash", "-c", "clawkeeper check | grep alerts"],
    );
    assert_eq!(out, "", "nobody is told where nothing is set");
}
