//! The five services by name, and the number of their instances.

use std::{fmt, str::FromStr};

/// One of the five services; its package and binary have the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// `gateway_api`
    Gateway,
    /// `order_service`
    Order,
    /// `inventory_service`
    Inventory,
    /// `account_service`
    Account,
    /// `msg_service`
    Message,
}

impl Service {
    /// All services, in the order in which a request reaches them.
    pub const ALL: [Self; 5] =
        [Self::Gateway, Self::Order, Self::Inventory, Self::Account, Self::Message];

    /// The name of the package and the binary.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway_api",
            Self::Order => "order_service",
            Self::Inventory => "inventory_service",
            Self::Account => "account_service",
            Self::Message => "msg_service",
        }
    }

    /// The Redis user of the service.
    #[must_use]
    pub const fn redis_user(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Order => "order",
            Self::Inventory => "inventory",
            Self::Account => "account",
            Self::Message => "message",
        }
    }

    /// Whether the service has an HTTP port besides its operations port.
    #[must_use]
    pub const fn has_http(self) -> bool {
        matches!(self, Self::Gateway | Self::Order)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|service| service.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no service is called {text:?}; there are {names}")
        })
    }
}

/// The number of instances of a service: `inventory_service=3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceCount {
    /// The service.
    pub service: Service,
    /// The number of instances; 0 if the service runs elsewhere.
    pub count: usize,
}

impl FromStr for InstanceCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (service, count) = text.split_once('=').ok_or("write it as inventory_service=3")?;
        let service: Service = service.trim().parse()?;
        let least = usize::from(service == Service::Gateway);
        let count = count.trim().parse().ok().filter(|count| (least..=32).contains(count));
        let count =
            count.ok_or_else(|| format!("the number of {service} must be {least} to 32"))?;
        Ok(Self { service, count })
    }
}

#[cfg(test)]
mod tests {
    use super::{InstanceCount, Service};

    #[test]
    fn instance_counts_are_read_as_written() {
        let three = InstanceCount { service: Service::Inventory, count: 3 };
        assert_eq!("inventory_service=3".parse(), Ok(three));
        let none = InstanceCount { service: Service::Message, count: 0 };
        assert_eq!(" msg_service = 0".parse(), Ok(none));
    }

    #[test]
    fn invalid_instance_counts_are_refused_with_the_reason() {
        for (text, complaint) in [
            ("inventory_service", "write it as"),
            ("inventory=3", "no service is called \"inventory\""),
            ("gateway_api=0", "must be 1 to 32"),
            ("order_service=many", "must be 0 to 32"),
            ("order_service=-1", "must be 0 to 32"),
            ("order_service=33", "must be 0 to 32"),
        ] {
            let error = text.parse::<InstanceCount>().expect_err(text);
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}
