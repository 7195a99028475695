//! Tollgate: a sidecar proxy for LLM APIs. It passes agents' calls on to model providers
//! untouched, reads them on the way, counts tokens and money, refuses or cuts what is over a
//! limit, and forwards what it saw as spans.
//!
//! # The modules, from the bottom up
//! A module imports only from tiers below its own; `tests/it/architecture.rs` enforces it.
//!
//! | tier | module | what it is |
//! |---|---|---|
//! | 0 | [`base`] | the words everyone uses: time, money, identifiers, units |
//! | 1 | [`call`] | what one call is: labels, facts, usage, refusals, spans; plain data |
//! | 2 | [`provider`] | providers' wire formats: bytes in, facts out |
//! | 2 | [`pricing`] | tokens to money, and the most that a request can cost |
//! | 2 | [`policy`] | may this call go ahead, may it go on: rules, counters, the purse |
//! | 2 | [`analysis`] | spans in, reports out |
//! | 2 | [`ingest`] | spans that agents report of themselves: bytes in, spans out |
//! | 3 | [`guard`] | what a call must pass besides: kills, models, caps, loops, storms, breakers |
//! | 3 | [`net`] | sockets, TLS, connections to providers; knows nothing of LLMs |
//! | 3 | [`ledger`] | what was reserved and spent, kept across crashes: journal and books |
//! | 3 | [`identity`] | client keys: made, kept in a file, recognised |
//! | 3 | [`store`] | the embedded store of spans |
//! | 4 | [`client`] | what a client's process is told so that its calls come here: variables |
//! | 4 | [`pipeline`] | finished spans on their way to processors |
//! | 5 | [`proxy`] | the data plane; its files are verbs, in the order a call meets them |
//! | 5 | [`admin`] | the admin listener: status, metrics, API |
//! | 5 | [`mock`] | mock providers, for demos and tests |
//! | 6 | [`config`] | the configuration file as a whole |
//! | 6 | [`kubernetes`] | what injection makes of a pod |
//! | 6 | [`app`] | the composition root: who gets whose handle |
//! | 6 | [`cli`] | the command line, one file a subcommand |
//!
//! # The way of a call
//! [`net`] accepts → `proxy/serve` takes the request → `proxy/begin` learns from its head who calls
//! (`authenticate`), where it goes (`route`) and for whom it is (`identify`) → `proxy/entrust` puts
//! Tollgate's own key in place of the client's, `proxy/sign` sees to a new signature →
//! `proxy/peek` reads the body → `proxy/attempts` tells what is sent again → `proxy/admit` has
//! `proxy/guard` ask [`guard`], estimates, asks [`policy`], writes the [`ledger`]'s journal →
//! `proxy/forward` sends it through [`net`] → `proxy/tap` passes each frame on while
//! `proxy/observe` reads the same bytes with [`provider`] → `proxy/finish` prices with [`pricing`],
//! settles with [`policy`], and offers the span to [`pipeline`].
//!
//! # Glossary
//! - **call**: one HTTP request through Tollgate and what came of it.
//! - **attempt**: one of the calls by which a client makes one logical call; a **retry** is any but
//!   the first.
//! - **dialect**: a wire format (OpenAI's, Anthropic's, Gemini's); a **provider** is a host that
//!   speaks one, and is data.
//! - **operation**: one endpoint of a dialect.
//! - **facts**: what the wire said, as far as we need it.
//! - **usage**: token counts; **bill**: usage times prices.
//! - **label**: who a call is for (agent, user, project, environment, session, workflow).
//! - **counter**: what a rule has spent and reserved, for one set of label values, in one window.
//! - **purse**: the table of live counters. **Journal**: the file that makes admissions survive.
//!   **Ledger**: both, and the books behind them.
//! - **reserve**, **settle**: to set aside the most that a call can cost, and to replace that by
//!   what it did cost.
//! - **exhausted**: the limit is spent. **Busy**: calls in flight hold the rest.
//! - **processor**: a destination of spans.

pub mod admin;
pub mod analysis;
pub mod app;
pub mod base;
pub mod call;
pub mod cli;
pub mod client;
pub mod config;
pub mod guard;
pub mod identity;
pub mod ingest;
pub mod kubernetes;
pub mod ledger;
pub mod mock;
pub mod net;
pub mod pipeline;
pub mod policy;
pub mod pricing;
pub mod provider;
pub mod proxy;
pub mod store;
