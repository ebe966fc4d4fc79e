use super::*;

fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    resolve(&environment(pairs), &[])
        .expect("these are right")
        .settings
}

#[test]
fn nothing_set_is_the_default() {
    assert_eq!(settings(&[]), Settings::default());
    assert_eq!(
        settings(&[("CLAWKEEPER_STOP_TIMEOUT", "")]),
        Settings::default(),
        "empty is unset"
    );
}

#[test]
fn a_flag_wins_over_the_environment() {
    let env = environment(&[("CLAWKEEPER_STOP_TIMEOUT", "10s")]);
    let resolved = resolve(&env, &[("stop-timeout", OsStr::new("20"))]).expect("right");
    assert_eq!(resolved.settings.stop_timeout, Some(Millis::from_secs(20)));
    assert_eq!(
        resolve(&env, &[]).expect("right").settings.stop_timeout,
        Some(Millis::from_secs(10))
    );
}

#[test]
fn all_errors_come_at_once_and_repeat_no_value() {
    let env = environment(&[
        ("CLAWKEEPER_STOP_TIMEOUT", "sk-secret"),
        ("CLAWKEEPER_MODE", "gatway"),
        ("CLAWKEEPER_INTERNAL_PORT", "70000"),
        ("CLAWKEEPER_BACKOFF_MIN", "10m"),
    ]);
    let error = resolve(&env, &[("user", OsStr::new("1000:x"))]).expect_err("five are wrong");
    assert_eq!(error.0.len(), 5, "{error}");
    assert!(!error.to_string().contains("secret"));
}

#[test]
fn a_misspelt_variable_is_named() {
    let resolved =
        resolve(&environment(&[("CLAWKEEPER_STOP_TIMOUT", "3")]), &[]).expect("not wrong");
    assert_eq!(resolved.unknown, ["CLAWKEEPER_STOP_TIMOUT"]);
}

#[test]
fn a_seed_is_a_path_or_a_json_object() {
    let seed = |text| settings(&[("CLAWKEEPER_CONFIG_SEED", text)]).config_seed;
    assert_eq!(
        seed("/etc/seed.json"),
        ConfigSeed::File("/etc/seed.json".into())
    );
    assert_eq!(
        seed("{gateway: {}}"),
        ConfigSeed::Text("{gateway: {}}".into())
    );
    assert_eq!(seed("// note\n{}"), ConfigSeed::Text("// note\n{}".into()));
    assert_eq!(seed("off"), ConfigSeed::Off);
}

#[test]
fn a_user_is_a_name_or_numbers() {
    let user = |text| settings(&[("CLAWKEEPER_USER", text)]).user;
    assert_eq!(user("node"), User::Name("node".into()));
    assert_eq!(
        user("1000"),
        User::Ids {
            uid: 1000,
            gid: None
        }
    );
    assert_eq!(
        user("1000:1001"),
        User::Ids {
            uid: 1000,
            gid: Some(1001)
        }
    );
}

#[test]
fn health_is_asked_for_at_an_address_with_a_port_or_not_at_all() {
    let listen = |text| settings(&[("CLAWKEEPER_HEALTH_LISTEN", text)]).health_listen;
    assert_eq!(listen("off"), None);
    assert_eq!(listen("[::]:9180"), "[::]:9180".parse().ok());
    for wrong in ["9180", "localhost:9180", "127.0.0.1", "127.0.0.1:0", "on"] {
        let env = environment(&[("CLAWKEEPER_HEALTH_LISTEN", wrong)]);
        assert!(resolve(&env, &[]).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_for_the_alert_command_is_no_misspelt_setting() {
    let env = environment(&[
        ("CLAWKEEPER_ALERT_DISCORD_WEBHOOK", "https://x"),
        ("CLAWKEEPER_ON_EVNT", "x"),
    ]);
    let resolved = resolve(&env, &[]).expect("not wrong");
    assert_eq!(resolved.unknown, ["CLAWKEEPER_ON_EVNT"]);
    let on_event = |text| settings(&[("CLAWKEEPER_ON_EVENT", text)]).on_event;
    assert_eq!(on_event(""), OnEvent::Auto);
    assert_eq!(on_event("off"), OnEvent::Off);
    assert_eq!(
        on_event("/usr/local/bin/page --now"),
        OnEvent::Command("/usr/local/bin/page --now".into())
    );
}
