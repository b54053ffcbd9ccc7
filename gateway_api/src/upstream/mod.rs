//! What the gateway asks of others: order_service over HTTP, and the Redis of each topic.

pub(crate) mod backlogs;
pub mod flow_sampler;
pub mod order_client;
pub(crate) mod pagination;
pub(crate) mod publish;
