//! `tollgate redirect print`: what it wants to know, and says all at once that it lacks.

use super::program::Program;

const TRANSPARENT: &str = "listen: {transparent: '127.0.0.1:4143'}\nintercept: {enabled: true}\n";

#[test]
fn any_of_three_options_says_whose_connections_are_meant() {
    let program = Program::new().with("tollgate.yaml", TRANSPARENT);
    for option in ["--uid=1337", "--mark=77", "--from=veth0"] {
        let ran = program.run(&["redirect", "print", option]);
        assert_eq!((ran.code, &*ran.stderr), (Some(0), ""), "{option}");
        assert!(ran.stdout.contains("4143"), "{option}: {}", ran.stdout);
    }
}

#[test]
fn all_that_is_missing_is_said_at_once() {
    let (whose, place) = (["--uid", "--mark", "--from"], ["--to PORT", "listen:"]);
    let bare = Program::new();
    let configured = Program::new().with("tollgate.yaml", TRANSPARENT);
    for action in ["print", "apply"] {
        for (program, arguments, lacks, has) in [
            (&bare, &[][..], [&whose[..], &place].concat(), &[][..]),
            (&bare, &["--to=4143"], whose.to_vec(), &place),
            (&bare, &["--uid=1"], place.to_vec(), &whose),
            (&configured, &[], whose.to_vec(), &place),
        ] {
            let ran = program.run(&[&["redirect", action], arguments].concat());
            assert_eq!((ran.code, &*ran.stdout), (Some(2), ""), "{arguments:?}");
            for option in lacks {
                assert!(ran.stderr.contains(option), "{option}: {}", ran.stderr);
            }
            for option in has {
                assert!(!ran.stderr.contains(option), "{option}: {}", ran.stderr);
            }
        }
    }
}

#[test]
fn what_is_no_mark_is_said_with_what_is() {
    let program = Program::new().with("tollgate.yaml", TRANSPARENT);
    for mark in ["0", "-1", "x", "4294967296"] {
        let ran = program.run(&["redirect", "print", &format!("--mark={mark}")]);
        assert_eq!(ran.code, Some(2), "{mark}");
        assert!(
            ran.stderr.contains("from 1 to 4294967295"),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn a_listener_on_any_port_is_told_to_have_one_of_its_own() {
    let any = TRANSPARENT.replace("4143", "0");
    let program = Program::new().with("tollgate.yaml", &any);
    let ran = program.run(&["redirect", "print", "--uid=1"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stdout);
    assert!(ran.stderr.contains("port of its own"), "{}", ran.stderr);
}

#[test]
fn a_user_that_this_machine_does_not_know_is_named() {
    let program = Program::new().with("tollgate.yaml", TRANSPARENT);
    for (user, says) in [("nobodyhere", "no such user"), ("4294967296", "4294967295")] {
        let ran = program.run(&["redirect", "print", &format!("--uid={user}")]);
        assert_eq!((ran.code, &*ran.stdout), (Some(2), ""), "{user}");
        assert!(ran.stderr.contains(user), "{}", ran.stderr);
        assert!(ran.stderr.contains(says), "{}", ran.stderr);
    }
    for (user, prints) in [
        ("root", "skuid \"root\""),
        ("4294967295", "skuid \"4294967295\""),
        ("0010", "skuid \"10\""),
    ] {
        let ran = program.run(&["redirect", "print", &format!("--uid={user}")]);
        assert!(ran.stdout.contains(prints), "{}{}", ran.stdout, ran.stderr);
    }
}
