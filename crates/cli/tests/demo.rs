//! The demo with the real binary: what it counts, how it ends, what it leaves.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use support::{Ran, Running, run_in};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).expect("a folder").next().is_none()
}

fn demo_of(text: impl AsRef<[u8]>) -> (Ran, TempDir) {
    let (input, tmp) = (folder(), folder());
    let file = input.path().join("text");
    fs::write(&file, text).expect("a file");
    let ran = run_in(tmp.path(), ["demo".as_ref(), file.as_os_str()]);
    (ran, tmp)
}

#[test]
fn the_demo_counts_like_a_local_count_over_direct_links_and_leaves_nothing() {
    let tmp = folder();
    let ran = run_in(tmp.path(), ["demo"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.lines[0]["event"], "ready");
    let result = ran.last();
    assert_eq!(result["event"], "result");
    assert_eq!(result["ok"], true);
    assert_eq!(result["matches_local"], true);
    assert_eq!(result["all_direct"], true);
    assert_eq!(result["links"], 6);
    let of = |event: &'static str| ran.lines.iter().filter(move |line| line["event"] == event);
    assert_eq!(of("link").count(), 6);
    assert!(of("link").all(|link| link["path"] == "direct" && link["transport"] == "webrtc"));
    let workers: BTreeSet<_> = of("delegation")
        .map(|delegation| delegation["worker"].to_string())
        .collect();
    assert_eq!(workers.len(), 3);
    let first = of("first_answer").next().expect("a first answer");
    assert_eq!(
        (&first["request_path"], &first["to"]),
        (&"mailbox".into(), &"worker-1".into())
    );
    assert_eq!(first["elapsed_ms"], result["first_answer_ms"]);
    let absence = of("absence")
        .next()
        .expect("a message to an agent that was away");
    assert_eq!(absence["stored_path"], "mailbox");
    assert_eq!(
        (&absence["state"], &result["absence"]),
        (&"delivered".into(), &"delivered".into())
    );
    assert!(is_empty(tmp.path()));
}

#[test]
fn a_folder_that_is_named_keeps_the_mesh_for_the_next_time() {
    let (kept, tmp) = (folder(), folder());
    let text = kept.path().join("text");
    fs::write(&text, "one two two").expect("a file");
    let meshes = [(); 2].map(|()| {
        let args = ["demo".as_ref(), text.as_os_str(), "--data-dir".as_ref()];
        let args = args.into_iter().chain([kept.path().as_os_str()]);
        let ran = run_in(tmp.path(), args);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.lines[0]["mesh_fingerprint"].clone()
    });
    assert_eq!(meshes[0], meshes[1]);
    assert!(kept.path().join("registry/authority/mesh.key").exists());
    assert!(is_empty(tmp.path()));
}

#[test]
fn a_text_larger_than_a_message_is_counted_whole() {
    let words = 500_000;
    let (ran, tmp) = demo_of("Zwölf \n".repeat(words));
    let result = ran.last();
    assert_eq!(result["total_words"], words, "{result}");
    assert_eq!(result["matches_local"], true);
    assert!(result["delegations"].as_u64().expect("a number") > 12);
    assert!(is_empty(tmp.path()));
}

#[test]
fn a_text_without_words_has_none() {
    for text in ["", " \n\u{3000}"] {
        let (ran, _) = demo_of(text);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(ran.last()["total_words"], 0);
        assert_eq!(ran.last()["matches_local"], true);
    }
}

#[test]
fn a_file_that_cannot_be_counted_is_a_coded_error() {
    let tmp = folder();
    let ran = run_in(tmp.path(), ["demo", "/no/such/file"]);
    assert_eq!((ran.code, ran.error_code()), (Some(1), "storage"));
    let ran = run_in(tmp.path(), ["demo", "/"]);
    assert_eq!((ran.code, ran.error_code()), (Some(1), "storage"));
    let (ran, _) = demo_of([0xff, 0xfe]);
    assert_eq!((ran.code, ran.error_code()), (Some(1), "not_utf8"));
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    let (input, tmp) = (folder(), folder());
    let file = input.path().join("text");
    fs::write(&file, "word ".repeat(2_000_000)).expect("a file");
    let demo = Running::start_in(tmp.path(), ["demo".as_ref(), file.as_os_str()]);
    demo.told("ready");
    let ran = demo.interrupted();
    assert_eq!((ran.code, ran.error_code()), (Some(1), "cancelled"));
    assert!(is_empty(tmp.path()));
}
