//! The file processor, as the configuration makes it.

use std::{fs, sync::Arc, time::Duration};

use tollgate::{
    base::clock::{SystemClock, Timestamp},
    call::span::Span,
    pipeline::{BuildContext, Config, Pipeline},
};

fn start(yaml: &str) -> Pipeline {
    let config: Config = serde_saphyr::from_str(yaml).unwrap();
    let clock = Arc::new(SystemClock);
    let context = BuildContext::new(Arc::<SystemClock>::clone(&clock));
    Pipeline::start(Vec::new(), config.build(&context).unwrap(), clock).unwrap()
}

#[tokio::test]
async fn spans_are_in_the_file_as_soon_as_they_are_flushed_and_survive_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let yaml = format!(
        "processors: [{{type: file, directory: '{}', rotation: size}}]",
        place.path().display()
    );
    let mut expected = String::new();
    for _ in 0..2 {
        let pipeline = start(&yaml);
        for _ in 0..50 {
            let span = Span::begun(Timestamp::from_secs(1_795_328_714));
            expected.push_str(&span.to_json());
            expected.push('\n');
            pipeline.offer(span);
        }
        assert!(pipeline.flush(Duration::from_secs(20)).await);
        pipeline.close(Duration::from_secs(20)).await;
    }
    let mut files = fs::read_dir(place.path()).unwrap();
    let path = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none(), "one file");
    assert_eq!(fs::read_to_string(path).unwrap(), expected);
}
