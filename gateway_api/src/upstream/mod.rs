//! The services behind the gateway: order_service over HTTP, and the Redis of each topic.

pub(crate) mod backlogs;
pub(crate) mod demo_data;
pub(crate) mod flow;
pub(crate) mod flow_sampler;
pub(crate) mod order_client;
mod outbox;
pub(crate) mod pagination;
pub(crate) mod publish;
pub(crate) mod queries;
pub(crate) mod queue_position;
pub(crate) mod stores;
