//! The state that handlers share.

use std::sync::Arc;

use crate::{
    access::gate::Gate,
    events::EventStreams,
    upstream::{
        backlogs::Backlogs, flow_sampler::FlowSampler, order_client::OrderClient,
        publish::Publisher, stores::Stores,
    },
};

/// The state that handlers share.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    /// Authentication and authorization.
    pub gate: Arc<Gate>,
    /// The client of order_service.
    pub orders: Arc<OrderClient>,
    /// Connections to the Redis of each topic.
    pub stores: Arc<Stores>,
    /// The backlog limit of published commands.
    pub(crate) backlogs: Arc<Backlogs>,
    /// Server-sent events.
    pub events: Arc<EventStreams>,
    /// Samples of the event flow.
    pub flow: Arc<FlowSampler>,
}

impl Gateway {
    /// The publisher of commands.
    pub(crate) fn publisher(&self) -> Publisher<'_> {
        Publisher { stores: &self.stores, backlogs: &self.backlogs }
    }
}
