//! Checks the money: all of it is in an account or was paid for orders.

use std::collections::BTreeMap;

use account_service::wallet::Payment;
use common::contract::{entities::Account, ids::CustomerId};

use super::facts::Snapshot;

impl Snapshot {
    pub(super) fn check_money(&self, findings: &mut Vec<String>) {
        let mut paid: BTreeMap<&CustomerId, u128> = BTreeMap::new();
        for payment in self.payments.values().filter(|payment| payment.net_amount() > 0) {
            let Payment { customer_id, .. } = payment;
            *paid.entry(customer_id).or_default() += u128::from(payment.net_amount());
        }
        for (id, account) in &self.accounts {
            let Account { balance, paid: booked, deposited, .. } = account;
            if balance.checked_add(*booked) != Some(*deposited) {
                findings.push(format!(
                    "account {id}: deposited {deposited}, but balance {balance} and paid {booked} \
                     make {}",
                    u128::from(*balance) + u128::from(*booked)
                ));
            }
            let paid = paid.remove(id).unwrap_or(0);
            if paid != u128::from(*booked) {
                findings.push(format!("account {id}: paid {booked}, but its payments make {paid}"));
            }
        }
        for (id, paid) in paid {
            findings.push(format!("account {id}: does not exist, but its payments make {paid}"));
        }
    }
}
