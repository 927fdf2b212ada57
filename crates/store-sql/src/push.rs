//! The port for push, handed to the transactions that do the work.

use std::time::Duration;

use async_trait::async_trait;
use yard_domain::{DeliveryState, Lease, SubscriptionId};
use yard_ports::push::{
    DeliveryFilter, DeliveryResult, DeliveryRow, DueDelivery, PushPage, PushStep, PushStore, Resend,
};
use yard_ports::store::StoreError;

use crate::store::SqlStore;
use crate::{deliveries, push_steps};

#[async_trait]
impl PushStore for SqlStore {
    async fn push_page(&self, limit: u32) -> Result<PushPage, StoreError> {
        self.run(push_steps::Page { limit }).await
    }

    async fn step_push(&self, lease: &Lease, step: PushStep<'_>) -> Result<bool, StoreError> {
        self.run(push_steps::Step { lease, step }).await
    }

    async fn delivery_subscriptions(&self) -> Result<Vec<SubscriptionId>, StoreError> {
        self.run(deliveries::Subscriptions).await
    }

    async fn due_deliveries(
        &self,
        subscription: &SubscriptionId,
        limit: u32,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        self.run(deliveries::Due { subscription, limit }).await
    }

    async fn record_deliveries(
        &self,
        lease: &Lease,
        subscription: &SubscriptionId,
        results: &[DeliveryResult],
    ) -> Result<(), StoreError> {
        self.run(deliveries::Record { lease, subscription, results }).await
    }

    async fn retire_deliveries(
        &self,
        lease: &Lease,
        subscription: &SubscriptionId,
        reason: &str,
        limit: u32,
    ) -> Result<u32, StoreError> {
        self.run(deliveries::Retire { lease, subscription, reason, limit }).await
    }

    async fn purge_deliveries(
        &self,
        subscription: &SubscriptionId,
        keep: Duration,
        limit: u32,
    ) -> Result<u32, StoreError> {
        self.run(deliveries::Purge { subscription, keep, limit }).await
    }

    async fn count_deliveries(
        &self,
        subscription: &SubscriptionId,
        state: DeliveryState,
        limit: u32,
    ) -> Result<u32, StoreError> {
        self.run(deliveries::Count { subscription, state, limit }).await
    }

    async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryRow>, StoreError> {
        self.run(deliveries::List { filter }).await
    }

    async fn resend_deliveries(&self, which: &Resend) -> Result<u32, StoreError> {
        self.run(deliveries::SendAgain { which }).await
    }
}
