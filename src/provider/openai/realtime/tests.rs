//! Sessions of the Realtime API, and what is said in them.

use super::*;
use crate::{call::usage::Usage, provider::wire::scan::Scanner};

fn session() -> Session {
    let mut session = Session::default();
    let query = Some("foo=1&model=gpt%2Drealtime");
    Realtime.open("/v1/realtime", query, &mut session);
    session
}

fn begun(message: &str, session: &mut Session) -> (RequestFacts, Option<Box<str>>) {
    match Realtime.hear(message.as_bytes(), session) {
        Heard::Begins(request, tag) => (*request, tag),
        Heard::Nothing => panic!("{message}"),
    }
}

#[test]
fn a_response_is_asked_for_with_the_session_and_all_that_was_said() {
    let mut session = session();
    for message in [
        r#"{"type":"session.update","session":{"type":"realtime","instructions":"Be brief.",
            "max_output_tokens":500,"tools":[{"type":"function","name":"f"}],
            "audio":{"input":{"transcription":{"model":"gpt-4o-transcribe"}}}}}"#,
        r#"{"type":"conversation.item.create","item":{"type":"message","role":"user",
            "content":[{"type":"input_text","text":"Hello"},
            {"type":"input_image","image_url":"data:image/png;base64,AAAA"}]}}"#,
        &format!(
            r#"{{"type":"input_audio_buffer.append","audio":"{}"}}"#,
            "A".repeat(4_000)
        ),
        "not JSON",
    ] {
        let heard = Realtime.hear(message.as_bytes(), &mut session);
        assert_eq!(heard, Heard::Nothing);
    }
    let (request, tag) = begun(
        r#"{"type":"response.create","event_id":"e1","response":{"metadata":{"user_id":"u"}}}"#,
        &mut session,
    );
    assert_eq!(tag.as_deref(), Some("e1"));
    assert_eq!(request.model.as_deref(), Some("gpt-realtime"));
    assert_eq!((request.stream, request.output_limit), (true, Some(500)));
    assert_eq!(request.tools, [Box::from("f")]);
    let input = request.input;
    assert_eq!((input.images, input.media_bytes), (1, 8));
    assert!((60..300).contains(&input.text_bytes.bytes), "{input:?}");
    let own = r#"{"type":"response.create","response":{"max_output_tokens":20}}"#;
    assert_eq!(begun(own, &mut session).0.output_limit, Some(20));
    for unlimited in [
        r#"{"max_output_tokens":"inf"}"#,
        r#"{"max_output_tokens":20,"max_response_output_tokens":"inf"}"#,
    ] {
        let own = format!(r#"{{"type":"response.create","response":{unlimited}}}"#);
        let mut scanner = Scanner::new(WANTED);
        scanner.feed(own.as_bytes());
        let reduced = String::from_utf8(scanner.finish().document).unwrap();
        for own in [own, reduced] {
            assert_eq!(begun(&own, &mut session).0.output_limit, None, "{own}");
        }
    }
    let inf = r#"{"type":"session.update","session":{"max_output_tokens":"inf"}}"#;
    Realtime.hear(inf.as_bytes(), &mut session);
    let next = begun(r#"{"type":"response.create"}"#, &mut session);
    assert_eq!(next, (session.request(), None));
    assert_eq!(next.0.output_limit, None);
    assert_eq!(session.transcriber.as_deref(), Some("gpt-4o-transcribe"));
}

const DONE: &str = r#"{"type":"response.done","event_id":"e","response":{"object":"realtime.response",
    "id":"resp_1","status":"incomplete","status_details":{"type":"incomplete","reason":"max_output_tokens"},
    "output":[{"id":"i","type":"function_call","call_id":"c","name":"f","arguments":"{}"}],
    "usage":{"total_tokens":370,"input_tokens":250,"output_tokens":120,
    "input_token_details":{"text_tokens":50,"audio_tokens":200,"image_tokens":0,"cached_tokens":64,
        "cached_tokens_details":{"text_tokens":14,"audio_tokens":50,"image_tokens":0}},
    "output_token_details":{"text_tokens":20,"audio_tokens":100}}}}"#;

#[test]
fn of_several_models_none_is_taken_for_the_one_that_answers() {
    let opened = |path: &str, query: &str| {
        let mut session = Session::default();
        Realtime.open(path, Some(query), &mut session);
        let model = session.model().map(str::to_owned);
        (model.unwrap_or_default(), session.hides_model())
    };
    let (plain, deployed) = ("/v1/realtime", "/openai/deployments/d/realtime");
    for (path, query, model, hides) in [
        (plain, "model=a", "a", false),
        (plain, "x=1&deployment=a&y", "a", false),
        (plain, "model=a&deployment=%61", "a", false),
        (plain, "model=&deployment=a", "a", false),
        (plain, "model=a&deployment=b", "a", true),
        (plain, "model=a&model=b", "a", true),
        (plain, "model=a&Model=b", "a", true),
        (plain, "model=a&depl%6Fyment=b", "a", true),
        (deployed, "api-version=1", "d", false),
        (deployed, "deployment=d", "d", false),
        (deployed, "model=a", "d", true),
    ] {
        let found = opened(path, query);
        assert_eq!(found, (model.to_owned(), hides), "{path} {query}");
    }
    // The provider knows which of them it is.
    let mut session = Session::default();
    Realtime.open(plain, Some("model=mini&deployment=large"), &mut session);
    let created = br#"{"type":"session.created","session":{"model":"large"}}"#;
    Realtime.said(created, &mut session);
    assert_eq!(
        (session.model(), session.hides_model()),
        (Some("large"), true)
    );
}

#[test]
fn what_a_client_claims_is_no_model_before_the_provider_says_so() {
    let update = |model: &str, session: &mut Session| {
        let update = format!(r#"{{"type":"session.update","session":{{"model":"{model}"}}}}"#);
        Realtime.hear(update.as_bytes(), session);
    };
    let created = br#"{"type":"session.created","session":{"model":"real"}}"#;
    let mut unnamed = Session::default();
    Realtime.open("/v1/realtime", None, &mut unnamed);
    update("cheap", &mut unnamed);
    assert_eq!(unnamed.model(), Some("cheap"));
    Realtime.said(created, &mut unnamed);
    assert_eq!(
        (unnamed.model(), unnamed.hides_model()),
        (Some("real"), false)
    );
    update("real", &mut unnamed);
    assert!(!unnamed.hides_model());
    update("cheap", &mut unnamed);
    assert!(unnamed.request().hides_model);
    // What it was opened with stays the name.
    let mut named = session();
    Realtime.said(created, &mut named);
    assert_eq!(
        (named.model(), named.hides_model()),
        (Some("gpt-realtime"), false)
    );
    // To say what the provider says is no claim; another one holds until the provider answers it.
    let real = br#"{"type":"session.updated","session":{"model":"real"}}"#;
    update("real", &mut named);
    assert!(!named.hides_model());
    Realtime.said(real, &mut named);
    update("large", &mut named);
    assert!(named.hides_model());
    Realtime.said(real, &mut named);
    assert_eq!(
        (named.model(), named.hides_model()),
        (Some("gpt-realtime"), false)
    );
    update("large", &mut named);
    let updated = br#"{"type":"session.updated","session":{"model":"large"}}"#;
    Realtime.said(updated, &mut named);
    assert_eq!((named.model(), named.hides_model()), (Some("large"), false));
}

#[test]
fn an_answer_to_another_update_settles_no_claim() {
    let hear = |session: &mut Session, update: &str| {
        let update = format!(r#"{{"type":"session.update","session":{update}}}"#);
        Realtime.hear(update.as_bytes(), session);
    };
    let says = |session: &mut Session, kind: &str, model: &str| {
        let said = format!(r#"{{"type":"session.{kind}","session":{{"model":"{model}"}}}}"#);
        Realtime.said(said.as_bytes(), session);
        (
            session.model().map(str::to_owned).unwrap_or_default(),
            session.hides_model(),
        )
    };
    let is = |model: &str, hides| (model.to_owned(), hides);
    let (voice, large) = (r#"{"voice":"ash"}"#, r#"{"model":"large"}"#);
    let opened = || {
        let mut session = Session::default();
        Realtime.open("/v1/realtime", Some("model=mini"), &mut session);
        session
    };
    let created = || {
        let mut session = opened();
        assert_eq!(says(&mut session, "created", "mini"), is("mini", false));
        session
    };
    let mut session = created();
    hear(&mut session, voice);
    hear(&mut session, large);
    assert_eq!(says(&mut session, "updated", "mini"), is("mini", true));
    assert_eq!(says(&mut session, "updated", "large"), is("large", false));
    // Nor does one that was under way before the provider spoke.
    let mut session = opened();
    hear(&mut session, voice);
    hear(&mut session, large);
    assert_eq!(says(&mut session, "created", "mini"), is("mini", true));
    assert_eq!(says(&mut session, "updated", "mini"), is("mini", true));
    assert_eq!(says(&mut session, "updated", "large"), is("large", false));
    // While a claim is open, to name the model of before is one too.
    let mut session = created();
    for update in [large, voice, r#"{"model":"mini"}"#] {
        hear(&mut session, update);
    }
    assert_eq!(says(&mut session, "updated", "large"), is("large", true));
    assert_eq!(says(&mut session, "updated", "large"), is("large", true));
    assert_eq!(says(&mut session, "updated", "mini"), is("mini", false));
    // An update that is refused is answered too, and another error answers none.
    let fails = |session: &mut Session, param: &str| {
        let said = format!(r#"{{"type":"error","error":{{"param":"{param}"}}}}"#);
        Realtime.said(said.as_bytes(), session);
    };
    for update in [large, voice] {
        hear(&mut session, update);
    }
    fails(&mut session, "item.type");
    assert_eq!(says(&mut session, "updated", "mini"), is("mini", true));
    fails(&mut session, "session.model");
    hear(&mut session, voice);
    assert_eq!(says(&mut session, "updated", "mini"), is("mini", false));
    // Another model that nobody has asked for is the one that is paid for.
    assert_eq!(says(&mut session, "updated", "large"), is("large", false));
}

/// A session of `mini` whose client has sent `before`, and then asks for `large` and for another voice;
/// of what the provider has answered, and whether the model is known once it has said `mini` after it.
fn settles(before: &[&str], answers: &[&str]) -> bool {
    let mut session = Session::default();
    Realtime.open("/v1/realtime", Some("model=mini"), &mut session);
    let created = r#"{"type":"session.created","session":{"model":"mini"}}"#;
    Realtime.said(created.as_bytes(), &mut session);
    let asked = [
        r#"{"type":"session.update","session":{"model":"large"}}"#,
        r#"{"type":"session.update","session":{"voice":"ash"}}"#,
    ];
    for message in before.iter().chain(&asked) {
        Realtime.hear(message.as_bytes(), &mut session);
    }
    assert!(session.hides_model());
    let updated = r#"{"type":"session.updated","session":{"model":"mini"}}"#;
    for message in answers.iter().chain(&[updated]) {
        Realtime.said(message.as_bytes(), &mut session);
    }
    assert_eq!(session.model(), Some("mini"));
    !session.hides_model()
}

#[test]
fn a_refusal_that_names_no_field_answers_an_update() {
    let refused = r#"{"type":"error","error":{"type":"invalid_request_error",
        "code":"cannot_update_voice","param":null,"event_id":null}}"#;
    let other =
        r#"{"type":"error","error":{"code":"cannot_update_voice","param":"response.voice"}}"#;
    let create = r#"{"type":"response.create"}"#;
    assert!(settles(&[create], &[refused]));
    assert!(!settles(&[create], &[]));
    assert!(!settles(&[create], &[other]));
    // It may be about the voice of a response.
    for own in [
        r#"{"voice":"ash"}"#,
        r#"{"audio":{"output":{"voice":"ash"}}}"#,
    ] {
        let create = format!(r#"{{"type":"response.create","response":{own}}}"#);
        assert!(!settles(&[&create], &[refused]), "{own}");
    }
}

#[test]
fn an_error_about_a_session_that_is_no_update_answers_none() {
    let refused = |param: &str| {
        let error = format!(r#"{{"type":"error","error":{{"param":"{param}","code":"c"}}}}"#);
        error.into_boxed_str()
    };
    for (message, param) in [
        (
            r#"{"type":"input_audio_buffer.clear","session":{}}"#,
            "session",
        ),
        (
            r#"{"type":"input_audio_buffer.clear","session":null}"#,
            "session",
        ),
        (
            r#"{"type":"input_audio_buffer.clear","session.a":1}"#,
            "session.a",
        ),
        (r#"{"type":"transcription_session.update"}"#, "session"),
    ] {
        let refused = refused(param);
        assert!(!settles(&[message], &[&refused]), "{message}");
        assert!(settles(&[message], &[&refused, &refused]), "{message}");
    }
    // One that is answered as it should be; and after one that was not seen as a whole no error counts.
    let transcribe = r#"{"type":"transcription_session.update","session":{}}"#;
    let updated = r#"{"type":"transcription_session.updated","session":{}}"#;
    let refused = refused("session.model");
    assert!(settles(&[transcribe], &[updated, &refused]));
    assert!(!settles(&[transcribe], &[&refused]));
    let mut session = Session::default();
    Realtime.open("/v1/realtime", Some("model=mini"), &mut session);
    session.lacks();
    let update = r#"{"type":"session.update","session":{"model":"large"}}"#;
    Realtime.hear(update.as_bytes(), &mut session);
    assert_eq!(
        Realtime.said(refused.as_bytes(), &mut session),
        Said::Nothing
    );
    let created = r#"{"type":"session.created","session":{"model":"mini"}}"#;
    Realtime.said(created.as_bytes(), &mut session);
    assert!(session.hides_model());
}

#[test]
fn an_update_that_is_refused_ends_no_response_that_is_awaited() {
    let fails = |tag: Option<&str>| Said::Fails {
        tag: tag.map(Box::from),
        status: None,
        ends: false,
    };
    let mut session = session();
    let refused = br#"{"type":"error","error":{"param":"session.voice","event_id":null}}"#;
    let tagged = br#"{"type":"error","error":{"param":"session.voice","event_id":"e1"}}"#;
    let update = br#"{"type":"session.update","session":{"voice":"x"}}"#;
    for _ in 0..2 {
        Realtime.hear(update, &mut session);
    }
    assert_eq!(Realtime.said(refused, &mut session), Said::Nothing);
    assert_eq!(Realtime.said(tagged, &mut session), fails(Some("e1")));
    // No update is left that it could be about.
    assert_eq!(Realtime.said(refused, &mut session), fails(None));
}

#[test]
fn a_response_s_messages_are_told_apart_and_read() {
    let mut session = session();
    let created = br#"{"type":"response.created","response":{"id":"resp_1","status":"in_progress","output":[],"usage":null}}"#;
    let delta = br#"{"type":"response.output_audio_transcript.delta","response_id":"resp_1","delta":"Hello"}"#;
    let sound = br#"{"type":"response.output_audio.delta","response_id":"resp_1","delta":"AAAA"}"#;
    let id = || Some(Box::from("resp_1"));
    let part = || Said::Part {
        id: id(),
        begins: false,
    };
    let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
    for (message, said) in [
        (&created[..], Said::Begins(id())),
        (delta, part()),
        (sound, part()),
    ] {
        assert_eq!(Realtime.said(message, &mut session), said);
        Realtime.read(message, &mut facts, &mut state).unwrap();
    }
    assert_eq!((facts.output_bytes.bytes, facts.complete), (5, false));
    assert!(facts.finish_reasons.is_empty());
    assert_eq!(
        Realtime.said(DONE.as_bytes(), &mut session),
        Said::Ends(id())
    );
    Realtime
        .read(DONE.as_bytes(), &mut facts, &mut state)
        .unwrap();
    let expected = Usage {
        cache_read: Some(64),
        cache_audio_read: Some(50),
        cache_image_read: Some(0),
        input_audio: Some(200),
        input_image: Some(0),
        output_audio: Some(100),
        ..Usage::text(250, 120)
    };
    assert_eq!(facts.usage, expected);
    assert_eq!(facts.id.as_deref(), Some("resp_1"));
    assert_eq!(facts.finish_reasons, [Box::from("incomplete")]);
    assert_eq!(facts.stop_detail.as_deref(), Some("max_output_tokens"));
    assert_eq!(&*facts.tool_calls[0].name, "f");
    assert!(facts.complete);
}

#[test]
fn an_error_names_the_event_that_it_is_about() {
    let error = br#"{"type":"error","event_id":"x","error":{"type":"invalid_request_error","code":"c","event_id":"e9"}}"#;
    let said = Realtime.said(error, &mut session());
    let expected = Said::Fails {
        tag: Some(Box::from("e9")),
        status: None,
        ends: false,
    };
    assert_eq!(said, expected);
    assert_eq!(Realtime.said(b"{", &mut session()), Said::Nothing);
}

#[test]
fn a_transcript_is_a_work_of_its_own_model() {
    let mut session = session();
    session.transcriber = Some(Box::from("gpt-4o-transcribe"));
    let message =
        br#"{"type":"conversation.item.input_audio_transcription.completed","item_id":"i",
        "transcript":"Hello","usage":{"type":"tokens","total_tokens":22,"input_tokens":13,
        "input_token_details":{"text_tokens":0,"audio_tokens":13},"output_tokens":9}}"#;
    let Said::Apart(request) = Realtime.said(message, &mut session) else {
        panic!();
    };
    assert_eq!(request.model.as_deref(), Some("gpt-4o-transcribe"));
    let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
    Realtime.read(message, &mut facts, &mut state).unwrap();
    assert_eq!((facts.usage.total(), facts.complete), (22, true));
}

#[test]
fn the_steps_of_a_session_are_what_its_conversation_holds() {
    let mut session = Session::default();
    session.follow();
    let item = |rest: &str| format!(r#"{{"type":"conversation.item.create","item":{{{rest}}}}}"#);
    let done = |response: &str, call: &str| {
        format!(
            r#"{{"type":"response.output_item.done","response_id":"{response}","item":{{"type":"function_call","call_id":"{call}","name":"f","arguments":"{{}}"}}}}"#
        )
    };
    let created = |id: &str, conversation: &str| {
        format!(
            r#"{{"type":"response.created","response":{{"id":"{id}","conversation_id":{conversation}}}}}"#
        )
    };
    let hear = |message: &str, session: &mut Session| Realtime.hear(message.as_bytes(), session);
    let content = r#""type":"message","role":"user","content":[{"type":"input_text","text":"Go"}]"#;
    hear(&item(content), &mut session);
    for message in [
        r#"{"type":"input_audio_buffer.committed","item_id":"i"}"#,
        &created("r1", "\"conv\""),
        &created("r2", "null"),
        &done("r1", "c1"),
        &done("r2", "c2"),
        r#"{"type":"response.done","response":{"id":"r2","conversation_id":null}}"#,
        r#"{"type":"input_audio_buffer.committed","item_id":"j"}"#,
    ] {
        Realtime.said(message.as_bytes(), &mut session);
    }
    let output = r#""type":"function_call_output","call_id":"c1","output":"none""#;
    hear(&item(output), &mut session);
    let steps = session.steps().unwrap().clone();
    let found: Vec<_> = steps
        .iter()
        .map(|step| (step.tool.as_deref(), step.result.is_some()))
        .collect();
    let expected = [
        (None, false),
        (None, false),
        (Some("f"), true),
        (None, false),
    ];
    assert_eq!(found, expected);
    let spoken: std::collections::BTreeSet<u64> = steps.iter().map(|step| step.what).collect();
    assert_eq!(
        spoken.len(),
        4,
        "nothing that was spoken is like anything else"
    );
    // What is asked with an input of its own has only that.
    for (ask, count) in [
        (r#"{"type":"response.create"}"#, 4),
        (
            r#"{"type":"response.create","response":{"conversation":"none","input":[{"type":"message","role":"user","content":[]}]}}"#,
            1,
        ),
    ] {
        let Heard::Begins(request, _) = hear(ask, &mut session) else {
            panic!("{ask}");
        };
        assert_eq!(request.steps.len(), count, "{ask}");
    }
}
