//! What is billed besides the tokens of an answer: tools that the provider ran, and what only the
//! request says.

use super::exchange::Exchange;
use crate::{
    base::money::Usd,
    call::{facts::ResponseFacts, span::Value, usage::Usage},
    pricing::Tariff,
};

impl Exchange {
    /// What is billed by the piece and was said by the request.
    pub(super) fn with_pieces(&self, usage: &Usage) -> Usage {
        let said = self.request.unsaid.map(|unsaid| unsaid.likely);
        let said = said.unwrap_or_default();
        Usage {
            characters: usage.characters.or(said.characters),
            images: usage.images.or(said.images),
            search_units: usage.search_units.or(said.search_units),
            ..*usage
        }
    }

    /// Says how much of the cost are fees of tools, and which tools have fees that it leaves out.
    pub(super) fn note_fees(
        &mut self,
        tariff: Option<&Tariff>,
        usage: &Usage,
        facts: &ResponseFacts,
    ) {
        let Some(tariff) = tariff else {
            return;
        };
        let fees = tariff.tool_fees(usage);
        if fees > Usd::ZERO {
            let fees = Value::Text(fees.to_string().into());
            self.attributes.push(("tollgate.cost.tools_usd", fees));
        }
        let tools = facts.server_tools.iter();
        let mut left_out: Vec<_> = tools
            .filter(|tool| tariff.leaves_out(tool))
            .cloned()
            .collect();
        left_out.sort_unstable();
        left_out.dedup();
        if !left_out.is_empty() {
            let left_out = Value::Texts(left_out);
            self.attributes.push(("tollgate.cost.leaves_out", left_out));
        }
    }
}
