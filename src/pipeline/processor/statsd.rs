//! Spans as metrics in the statsd protocol, one datagram for many of them: what a call took, used and
//! cost. The protocol has no answers, so nobody knows what arrives.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use self::{
    line::Writer,
    socket::{Place, Sender},
};
use super::{
    super::{BuildContext, Content, Outlet, Record, Unit},
    BoxError, BoxFuture, BuildError, DeliverError, Processor,
};
use crate::net::post::shown_host;

mod line;
mod socket;

pub use line::Dialect;

/// `{type: statsd, …}`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where metrics go: `host:port` over UDP, or the path of a socket, as `unix:///run/statsd.sock`.
    pub address: Box<str>,
    /// How lines are written.
    pub dialect: Dialect,
    /// What all names begin with.
    pub prefix: Box<str>,
    /// Tags of every line.
    pub tags: BTreeMap<Box<str>, Box<str>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: Box::from("127.0.0.1:8125"),
            dialect: Dialect::Etsy,
            prefix: Box::from("ai_agents"),
            tags: BTreeMap::new(),
        }
    }
}

/// Makes the processor.
pub(super) fn build(config: &Config, context: &BuildContext) -> Result<Outlet, BuildError> {
    let statsd = Statsd::new(config, context).map_err(BuildError::of("statsd"))?;
    Ok(statsd.outlet("statsd", context))
}

/// How long metrics wait for their datagram to fill. Servers add up what comes within 10 s.
const FLUSH: std::time::Duration = std::time::Duration::from_secs(1);

/// Writes and sends the metrics of spans.
pub(super) struct Statsd {
    writer: Writer,
    sender: Sender,
    /// To be shown.
    host: Option<Box<str>>,
}

/// A statsd server cannot be sent to as it is configured.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoStatsd {
    /// Its address is none.
    #[error("address: expected host:port, or unix:///path of a socket")]
    Address,
    /// The prefix could end the name.
    #[error("prefix: expected letters, digits, `.`, `_` and `-`")]
    Prefix,
}

impl Statsd {
    /// Nothing is sent yet, and no name is looked up.
    pub(super) fn new(config: &Config, context: &BuildContext) -> Result<Self, NoStatsd> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if config.prefix.is_empty() || !config.prefix.bytes().all(plain) {
            return Err(NoStatsd::Prefix);
        }
        let place = Place::parse(&config.address).ok_or(NoStatsd::Address)?;
        Ok(Self {
            writer: Writer::new(
                (config.dialect, &config.prefix),
                &config.tags,
                (&context.service_name, context.environment.as_deref()),
            ),
            sender: Sender::new(place, Arc::clone(&context.clock)),
            host: shown_host(&config.address),
        })
    }

    /// The processor.
    pub(super) fn outlet(self, name: &str, context: &BuildContext) -> Outlet {
        let mut outlet = context.remote(name, self);
        outlet.delivery.max_age = FLUSH;
        outlet.delivery.content = Some(Content::None);
        outlet.unit = Unit::All;
        outlet
    }

    /// Sends what the batch comes to. Nothing is sent twice: the batch comes again only if the first
    /// datagram could not be sent.
    async fn tell(&mut self, batch: &[Arc<Record>]) -> Result<(), DeliverError> {
        let mut whole = 0;
        for packet in pack(&mut self.writer, batch, self.sender.most()) {
            let sent = self.sender.send(&packet.text).await;
            match sent {
                Ok(()) => whole = packet.whole,
                Err(error) if packet.is_first => return Err(DeliverError::retry(error)),
                Err(error) => {
                    return Err(DeliverError::Partly {
                        refused: batch.len().saturating_sub(whole),
                        source: BoxError::from(error),
                    });
                },
            }
        }
        Ok(())
    }
}

impl Processor for Statsd {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(self.tell(batch))
    }

    fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }
}

/// Some lines, with a line's end between them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Packet {
    text: String,
    /// How many spans of the batch are told once it is sent.
    whole: usize,
    is_first: bool,
}

/// The lines of all spans in packets of `most` bytes; a longer line is a packet by itself.
fn pack(writer: &mut Writer, batch: &[Arc<Record>], most: usize) -> Vec<Packet> {
    let mut packets = Vec::new();
    let mut packet = Packet {
        is_first: true,
        ..Packet::default()
    };
    for (before, record) in batch.iter().enumerate() {
        for line in writer.lines(record) {
            if !packet.text.is_empty() && packet.text.len() + 1 + line.len() > most {
                packet.whole = before;
                packets.push(std::mem::take(&mut packet));
            }
            if !packet.text.is_empty() {
                packet.text.push('\n');
            }
            packet.text.push_str(&line);
        }
    }
    packet.whole = batch.len();
    if !packet.text.is_empty() {
        packets.push(packet);
    }
    packets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::clock::SystemClock, call::span::tests::example};

    fn statsd(yaml: &str) -> Result<Statsd, NoStatsd> {
        let config: Config = serde_saphyr::from_str(yaml).unwrap();
        Statsd::new(&config, &BuildContext::new(Arc::new(SystemClock)))
    }

    #[test]
    fn packets_hold_whole_lines_and_say_how_far_they_lead() {
        let mut statsd = statsd("{dialect: dogstatsd}").unwrap();
        let batch: Vec<Arc<Record>> = (0..9).map(|_| Arc::new(Record::new(example()))).collect();
        let lines: Vec<String> = statsd.writer.lines(&batch[0]);
        for most in [1, 200, 1_432, 8_192, 1 << 20] {
            let packets = pack(&mut statsd.writer, &batch, most);
            let within = |packet: &Packet| packet.text.len() <= most || !packet.text.contains('\n');
            assert!(packets.iter().all(within), "{most}");
            let told = packets.iter().flat_map(|packet| packet.text.split('\n'));
            assert_eq!(told.count(), lines.len() * batch.len(), "{most}");
            let mut count = 0;
            for packet in &packets {
                assert_eq!(packet.is_first, count == 0);
                count += packet.text.split('\n').count();
                assert_eq!(packet.whole, count / lines.len(), "{most}");
            }
        }
        assert_eq!(pack(&mut statsd.writer, &[], 1_432), []);
    }

    #[test]
    fn what_cannot_be_is_said_with_its_key() {
        for (yaml, word) in [
            ("{address: nowhere}", "address"),
            ("{address: 'host:0'}", "address"),
            ("{address: 'unix://'}", "address"),
            ("{prefix: 'a:b'}", "prefix"),
            ("{prefix: ''}", "prefix"),
        ] {
            let error = statsd(yaml).err().unwrap().to_string();
            assert!(error.starts_with(word), "{yaml}: {error}");
        }
    }
}
