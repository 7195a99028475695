//! `tollgate demo`: mock providers, agents and the sidecar in one process. Nothing leaves the
//! machine, and what was recorded stays, to be looked at with the other commands.

mod cast;
mod client;
mod show;
mod voice;

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, log, scratch};
use crate::{
    analysis::report::{Format, render, total},
    app::App,
    base::{
        clock::SystemClock,
        id::{SpanId, TraceId},
        money::Usd,
    },
    call::tally::Dimension,
    config::{self, Sources},
    mock::{Mock, Options},
    policy::Unit,
    store::{Filter, Reader},
};
use cast::{Agent, HAND_OFF};
use client::{Answer, Client};
use show::{Stage, exact, heading, put};
use voice::{at, events};

/// The most turns of an agent: none of these needs as many.
const MOST_TURNS: usize = 8;

/// The budget that counts every call.
const EVERYTHING: &str = "demo";

/// The arguments of `tollgate demo`.
#[derive(Debug, Args)]
pub(super) struct Command {
    /// Keep the proxy, the mock providers and the status page up until Ctrl-C
    #[arg(long)]
    serve: bool,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.play())
    }

    async fn play(self) -> Result<(), Failure> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mock = Mock::start(Options {
            script: cast::script(),
            ..Options::default()
        })?;
        let directory = scratch::directory("demo")?;
        let app = start(&directory, &mock.url())?;
        let store = Reader::open(&data(&directory).join("spans.db")).map_err(Failure::failed)?;
        let mut stage = Stage::new(store)?;
        let proxy = app.proxy_address();
        let played = async {
            put("Agents, Tollgate and mock providers, all on this machine.\n\n")?;
            stage.fact("proxy", &format!("http://{proxy}"))?;
            stage.fact("providers", &format!("{} (mock)", mock.url()))?;
            stage.fact("limits", &app.limits())?;
            let trace = support(&app, &mut stage).await?;
            research(&app, &mut stage).await?;
            let refused = runaway(&app, &mut stage).await?;
            costs(&app, &stage)?;
            Ok::<_, Failure>((trace, refused))
        };
        let (trace, refused) = tokio::select! {
            played = played => played?,
            _ = interrupt.recv() => return Err(Failure::Said(130)),
        };
        if self.serve {
            // Reading works beside the owner.
            next(&directory, trace, &refused)?;
            heading("Still here", "until Ctrl-C")?;
            stage.fact("status", &format!("http://{}", app.admin_address()))?;
            let openai = format!("OPENAI_BASE_URL=http://{proxy}/v1 with any key");
            stage.fact("mock model", &openai)?;
            tokio::select! {
                _ = interrupt.recv() => {},
                () = app.keep_house() => {},
            }
            app.stop().await;
            return Ok(());
        }
        app.stop().await;
        next(&directory, trace, &refused)
    }
}

/// A customer wants a refund: one agent hands the conversation to another, which uses tools.
async fn support(app: &App, stage: &mut Stage) -> Result<TraceId, Failure> {
    heading(
        "Customer support",
        "an agent hands off to another, which calls tools",
    )?;
    let labels = [
        ("x-tollgate-workflow", "support"),
        ("x-tollgate-session", "ticket-4711"),
        ("x-tollgate-user", "mia"),
    ];
    let client = Client::new(app.proxy_address(), &labels);
    let scene = async {
        let task = cast::COMPLAINT;
        let triage = work(&client, &cast::TRIAGE, SpanId::random(), task).await?;
        match triage.hand_off.as_deref() {
            Some("refunds_agent") => work(&client, &cast::REFUNDS, triage.span, task).await,
            _ => Ok(triage),
        }
    };
    let done = stage.play(scene).await?;
    end(app, stage, &done.text).await?;
    Ok(client.trace())
}

/// Three agents on three APIs; the researcher streams, and calls two tools at once.
async fn research(app: &App, stage: &mut Stage) -> Result<(), Failure> {
    heading(
        "Research",
        "three APIs, streams, tools in parallel, two agents at a time",
    )?;
    let labels = [
        ("x-tollgate-workflow", "research"),
        ("x-tollgate-session", "report-12"),
        ("x-tollgate-user", "noah"),
    ];
    let client = Client::new(app.proxy_address(), &labels);
    let scene = async {
        let plan = work(&client, &cast::PLANNER, SpanId::random(), cast::QUESTION).await?;
        let task = format!("{} {}", cast::QUESTION, plan.text);
        let (research, critique) = tokio::join!(
            work(&client, &cast::RESEARCHER, plan.span, &task),
            work(&client, &cast::CRITIC, plan.span, &task),
        );
        critique?;
        research
    };
    let done = stage.play(scene).await?;
    end(app, stage, &done.text).await
}

/// An agent that does not stop by itself. Gives the id of a call that was refused.
async fn runaway(app: &App, stage: &mut Stage) -> Result<String, Failure> {
    heading(
        "A runaway",
        "an agent that never stops, until its budget stops it",
    )?;
    let labels = [("x-tollgate-workflow", "runaway")];
    let client = Client::new(app.proxy_address(), &labels);
    let agent = &cast::RUNAWAY;
    let parent = SpanId::random();
    let mut conversation = Vec::new();
    let mut was_cut = false;
    for _ in 0..MOST_TURNS {
        conversation.push(agent.voice.user(cast::LOOP));
        let answer = stage
            .play(ask(&client, agent, parent, &conversation))
            .await?;
        end(app, stage, "").await?;
        if !answer.status.is_success() {
            return raised(stage, &answer);
        }
        let is_cut = finish_reason(&answer.body).as_deref() == Some("length");
        if is_cut && !was_cut {
            stage.remark(
                "its SDK sees a stream that ends as any other: finish_reason \"length\". It was cut \
                 where what it had said could, at worst, cost all that was left.",
            )?;
        }
        was_cut |= is_cut;
        conversation.extend(agent.voice.read(&answer.body).items);
    }
    Err(Failure::failed(
        "nothing has stopped the runaway agent: its budget does not work",
    ))
}

/// Shows a refusal as an SDK does; gives the id of its call.
fn raised(stage: &Stage, answer: &Answer) -> Result<String, Failure> {
    let body: Value = serde_json::from_slice(&answer.body).map_err(Failure::failed)?;
    let header = |name| answer.header(name).unwrap_or("-");
    let said = |path| at(&body, path).as_str().unwrap_or("-");
    stage.remark(&format!(
        "its SDK raises openai.RateLimitError: {} {}: {}",
        answer.status.as_u16(),
        said("/error/code"),
        said("/error/message"),
    ))?;
    stage.remark(&format!(
        "and does not try again: x-should-retry: {}, x-tollgate-blocked-by: {}",
        header("x-should-retry"),
        header("x-tollgate-blocked-by"),
    ))?;
    Ok(header("x-tollgate-request-id").to_owned())
}

/// Why a stream of chat completions ended.
fn finish_reason(body: &[u8]) -> Option<String> {
    let events = events(body);
    let mut reasons = events.iter().rev().filter_map(|event| {
        let reason = at(event, "/choices/0/finish_reason").as_str();
        reason.map(str::to_owned)
    });
    reasons.next()
}

/// What an agent has come to.
struct Done {
    /// Its last call.
    span: SpanId,
    text: String,
    /// The agent that it hands over to.
    hand_off: Option<String>,
}

/// Lets an agent work on a task until it answers or hands over.
async fn work(client: &Client, agent: &Agent, parent: SpanId, task: &str) -> Result<Done, Failure> {
    let mut conversation = vec![agent.voice.user(task)];
    let mut span = parent;
    for _ in 0..MOST_TURNS {
        let answer = ask(client, agent, span, &conversation).await?;
        if !answer.status.is_success() {
            let said = String::from_utf8_lossy(&answer.body).into_owned();
            return Err(Failure::failed(format!(
                "{} got {}: {said}",
                agent.name, answer.status
            )));
        }
        span = answer.span().unwrap_or(span);
        let turn = agent.voice.read(&answer.body);
        let mut names = turn.calls.iter();
        let hand_off = names.find_map(|call| call.name.strip_prefix(HAND_OFF));
        if turn.calls.is_empty() || hand_off.is_some() {
            return Ok(Done {
                span,
                hand_off: hand_off.map(str::to_owned),
                text: turn.text,
            });
        }
        conversation.extend(turn.items);
        let results = turn.calls.into_iter().map(|call| {
            let tool = agent.tools.iter().find(|tool| tool.name == call.name);
            (
                call,
                tool.map_or("There is no such tool.", |tool| tool.gives),
            )
        });
        conversation.extend(agent.voice.results(&results.collect::<Vec<_>>()));
    }
    Err(Failure::failed(format!(
        "{} does not come to an end",
        agent.name
    )))
}

async fn ask(
    client: &Client,
    agent: &Agent,
    parent: SpanId,
    conversation: &[Value],
) -> Result<Answer, Failure> {
    let path = agent.voice.path(agent.model);
    let request = agent.voice.request(agent, conversation);
    client.post(agent.name, parent, &path, &request).await
}

/// Shows what is left of a scene's spans, and its last words.
async fn end(app: &App, stage: &mut Stage, words: &str) -> Result<(), Failure> {
    app.flush().await;
    stage.glance()?;
    if words.is_empty() {
        return Ok(());
    }
    Ok(stage.remark(&format!("“{words}”"))?)
}

/// The table of costs, and the budgets. What spans and ledger say is counted apart, so that one
/// proves the other.
fn costs(app: &App, stage: &Stage) -> Result<(), Failure> {
    let by = [Dimension::Agent];
    let rows = stage.store().report(&Filter::default(), &by);
    let rows = rows.map_err(Failure::failed)?;
    let spans = total(&rows).cost_usd;
    heading("What it cost", "by the spans in the store")?;
    put(&render(&by, &rows, Format::Table, None))?;
    let budgets = app.budgets();
    let usd = || budgets.iter().filter(|budget| budget.unit == Unit::Usd);
    let ledger = usd().find(|budget| &*budget.name == EVERYTHING);
    let charged = stage.charged();
    if ledger.map(|budget| Usd::from_nanos(budget.spent)) != Some(charged) || charged < spans {
        return Err(Failure::failed(format!(
            "the spans were charged {} and the ledger says otherwise: please report this",
            exact(charged)
        )));
    }
    heading("Budgets", "by the ledger, and the same to the nano-dollar")?;
    if charged > spans {
        stage.remark(&format!(
            "plus {}: a stream that is cut counts as the most that it can have cost",
            exact(charged - spans)
        ))?;
    }
    for budget in usd() {
        let [limit, spent, left] =
            [budget.limit, budget.spent, budget.remaining].map(Usd::from_nanos);
        let (spent, limit, left) = (exact(spent), limit.short(), exact(left));
        stage.fact(
            &budget.name,
            &format!("{spent} spent of {limit}, {left} left"),
        )?;
    }
    Ok(())
}

/// What to try next.
fn next(directory: &Path, trace: TraceId, refused: &str) -> Result<(), Failure> {
    heading("Look around", "everything above is still there")?;
    let mut lines = vec![format!("cd {}", directory.display())];
    lines.extend(path_to_us());
    lines.extend([
        "tollgate report --by agent,model".to_owned(),
        format!("tollgate spans --trace {trace}"),
        "tollgate budgets".to_owned(),
        format!("tollgate why {refused}"),
    ]);
    for line in lines {
        put(&format!("  {line}\n"))?;
    }
    heading("Your own agents", "as they are")?;
    Ok(put("  tollgate exec -- python agent.py\n")?)
}

/// A line that lets the shell find this program, if it would not or would find another.
fn path_to_us() -> Option<String> {
    let own = env::current_exe().ok()?;
    let found = env::var_os("PATH").and_then(|path| {
        let mut places = env::split_paths(&path).map(|place| place.join("tollgate"));
        places.find(|place| place.is_file())
    });
    let same = found.and_then(|found| found.canonicalize().ok()) == own.canonicalize().ok();
    (!same).then(|| {
        format!(
            "export PATH={}:$PATH",
            own.parent().unwrap_or(&own).display()
        )
    })
}

/// Writes the configuration, as anybody would, and starts what it describes.
fn start(directory: &Path, providers: &str) -> Result<App, Failure> {
    let path = directory.join(config::DEFAULT_PATH);
    fs::write(&path, configuration(directory, providers))?;
    let loaded = config::load(Some(&path), &Sources::SYSTEM)?;
    log::start(loaded.config.log);
    Ok(App::start(loaded.config, Arc::new(SystemClock))?)
}

fn configuration(directory: &Path, providers: &str) -> String {
    let data = data(directory);
    let data = data.display();
    format!(
        r#"# What `tollgate demo` ran with.
listen: {{proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}}
log: {{level: error}}
providers:
  openai: {{base_url: "{providers}"}}
  anthropic: {{base_url: "{providers}"}}
  gemini: {{base_url: "{providers}"}}
budgets:
  rules:
    - {{name: {EVERYTHING}, window: total, limit: {{usd: 1.00}}}}
    - {{name: runaway, match: {{agent: runaway}}, window: total, limit: {{usd: 0.012}}}}
store: {{path: "{data}"}}
ledger: {{path: "{data}/journal"}}
tracing: {{environment: demo, processors: []}}
"#
    )
}

/// The directory of the store and the ledger.
fn data(directory: &Path) -> PathBuf {
    directory.join("tollgate-data")
}
