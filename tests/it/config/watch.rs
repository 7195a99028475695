//! Edits of the configuration: seen however they are made, and only good ones come through.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use tollgate::{
    base::stamp::Stamp,
    config::{self, Config, Sources, Watch},
};

const SOURCES: Sources<'static> = Sources {
    variable: &|_| None,
    file: &|_| Err(io::Error::from(io::ErrorKind::NotFound)),
};

const FIRST: &str = "limits: {headers: 1}";

fn yaml(headers: usize) -> String {
    format!("limits: {{headers: {headers}}}")
}

/// The next good configuration.
async fn next(watch: &mut Watch) -> Config {
    loop {
        if let Ok(loaded) = watch.next(&SOURCES).await {
            return loaded.config;
        }
    }
}

/// Waits for a refusal that says so. SIGHUP of another test has the last one said again.
async fn refusal(watch: &mut Watch, says: &str) {
    loop {
        match watch.next(&SOURCES).await {
            Ok(loaded) => panic!("{:?} was taken", loaded.config.limits),
            Err(error) if error.to_string().contains(says) => return,
            Err(_) => {},
        }
    }
}

/// Waits for the configuration with so many headers. The test that sends SIGHUP sends it to every
/// watch of this process, so others may come before.
async fn until(watch: &mut Watch, headers: usize) {
    while next(watch).await.limits.headers != headers {}
}

fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}

/// With time paused, what is not reported is found by the look every 30 seconds.
#[tokio::test(start_paused = true)]
async fn edits_are_seen_in_place_by_replacement_and_by_a_swapped_link() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tollgate.yaml");
    fs::write(&path, FIRST).unwrap();
    let mut watch = Watch::new(&path, FIRST, &[]).unwrap();
    fs::write(&path, yaml(2)).unwrap();
    until(&mut watch, 2).await;
    replace(&path, &yaml(3));
    until(&mut watch, 3).await;

    // As Kubernetes does it: the file is a link through `..data`, which is swapped.
    let mount = tempfile::tempdir().unwrap();
    for (version, headers) in [("..v1", 4), ("..v2", 5)] {
        fs::create_dir(mount.path().join(version)).unwrap();
        fs::write(
            mount.path().join(version).join("tollgate.yaml"),
            yaml(headers),
        )
        .unwrap();
    }
    let path = mount.path().join("tollgate.yaml");
    symlink("..v1", mount.path().join("..data")).unwrap();
    symlink("..data/tollgate.yaml", &path).unwrap();
    let mut watch = Watch::new(&path, &yaml(4), &[]).unwrap();
    symlink("..v2", mount.path().join("..data_tmp")).unwrap();
    fs::rename(mount.path().join("..data_tmp"), mount.path().join("..data")).unwrap();
    until(&mut watch, 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_edit_is_told_with_its_place_and_the_next_good_one_comes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tollgate.yaml");
    fs::write(&path, FIRST).unwrap();
    let mut watch = Watch::new(&path, FIRST, &[]).unwrap();
    for (bad, place) in [
        (
            "limits: {headers: many}",
            "tollgate.yaml:1:19: limits.headers",
        ),
        ("limits: [", "tollgate.yaml:1:9"),
        ("no: such\nkey: s", "tollgate.yaml:1:1"),
        ("\u{0}", "tollgate.yaml"),
    ] {
        fs::write(&path, bad).unwrap();
        refusal(&mut watch, place).await;
    }
    fs::remove_file(&path).unwrap();
    refusal(&mut watch, "cannot read").await;
    let again = tokio::time::timeout(Duration::from_mins(5), next(&mut watch)).await;
    assert!(again.is_err(), "no file is no configuration");
    fs::write(&path, yaml(2)).unwrap();
    until(&mut watch, 2).await;
}

/// In real time: an edit is reported by the system long before the next look.
#[tokio::test]
async fn an_edit_is_reported_without_waiting_for_a_look() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tollgate.yaml");
    fs::write(&path, FIRST).unwrap();
    let mut watch = Watch::new(&path, FIRST, &[]).unwrap();
    replace(&path, &yaml(2));
    let seen = tokio::time::timeout(Duration::from_secs(20), until(&mut watch, 2)).await;
    assert_eq!(seen, Ok(()));
}

#[tokio::test]
async fn sighup_reloads_even_what_did_not_change() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tollgate.yaml");
    fs::write(&path, FIRST).unwrap();
    let mut watch = Watch::new(&path, FIRST, &[]).unwrap();
    let pid = std::process::id().to_string();
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -HUP {pid}")])
        .status();
    assert!(sent.unwrap().success());
    let config = tokio::time::timeout(Duration::from_secs(20), next(&mut watch)).await;
    assert_eq!(config.unwrap().limits.headers, 1);
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_that_a_value_is_from_is_an_edit() {
    let directory = tempfile::tempdir().unwrap();
    let (path, value) = (
        directory.path().join("t.yaml"),
        directory.path().join("value"),
    );
    let text = format!("limits: {{headers: \"${{file:{}}}\"}}", value.display());
    fs::write(&path, &text).unwrap();
    fs::write(&value, "1").unwrap();
    let loaded = config::load(Some(&path), &Sources::SYSTEM).unwrap();
    let document = loaded.document.unwrap();
    // Before anybody watches.
    fs::write(&value, "12").unwrap();
    let mut watch = Watch::new(&path, document.text(), document.files()).unwrap();
    // SIGHUP of another test has the last one read again.
    let mut headers = async || {
        let next = tokio::time::timeout(Duration::from_mins(5), watch.next(&Sources::SYSTEM)).await;
        let loaded = next.expect("nothing is noticed");
        loaded
            .map(|loaded| loaded.config.limits.headers)
            .map_err(|error| error.to_string())
    };
    while headers().await != Ok(12) {}
    replace(&value, "13");
    while headers().await != Ok(13) {}
    fs::remove_file(&value).unwrap();
    while !headers()
        .await
        .is_err_and(|error| error.contains("cannot read the file"))
    {}
    fs::write(&value, "14").unwrap();
    while headers().await != Ok(14) {}
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_read_for_a_while_is_tried_until_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tollgate.yaml");
    let value = directory.path().join("value");
    let text = format!("limits: {{headers: '${{file:{}}}'}}", value.display());
    fs::write(&path, &text).unwrap();
    fs::write(&value, "2").unwrap();
    let tries = AtomicUsize::new(0);
    let sources = Sources {
        variable: &|_| None,
        // Too many open files, twice.
        file: &|path| match tries.fetch_add(1, Relaxed) {
            0 | 1 => Err(io::Error::from_raw_os_error(24)),
            _ => fs::read_to_string(path),
        },
    };
    let mut watch = Watch::new(&path, &text, &[(value.clone(), Stamp::of(&value))]).unwrap();
    fs::write(&value, "345").unwrap();
    let refused = watch.next(&sources).await.unwrap_err();
    assert!(refused.to_string().contains("cannot read"), "{refused}");
    let headers = loop {
        // SIGHUP of another test may have it said again.
        if let Ok(loaded) = watch.next(&sources).await {
            break loaded.config.limits.headers;
        }
    };
    assert_eq!((headers, tries.into_inner()), (345, 3));
}
