//! Series of metrics: registered once, under one prefix, and forgotten with their names.

use std::collections::HashMap;

use prometheus::core::{Collector, Metric, MetricVec, MetricVecBuilder};
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
    Result, TextEncoder,
};

use super::labels::Names;

/// Seconds, from half a millisecond to the longest that anything may take.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// All series of the process, whose names begin with `cambio_`.
#[derive(Debug)]
pub(super) struct Series(Registry);

impl Series {
    #[expect(clippy::expect_used, reason = "the prefix is a constant, and every test builds it")]
    pub(super) fn new() -> Self {
        let registry = Registry::new_custom(Some("cambio".to_owned()), None);
        Self(registry.expect("the prefix is a name"))
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn float_gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.register(GaugeVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn durations(&self, name: &str, help: &str) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        self.register(Histogram::with_opts(options))
    }

    pub(super) fn duration_vec(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        self.register(HistogramVec::new(options, labels))
    }

    /// The text format, version 0.0.4.
    pub(super) fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.0.gather()).unwrap_or_default()
    }

    #[expect(clippy::expect_used, reason = "names are constants, and every test registers them")]
    fn register<C: Collector + Clone + 'static>(&self, collector: Result<C>) -> C {
        let collector = collector.expect("the metric is well-formed");
        self.0.register(Box::new(collector.clone())).expect("no two metrics have one name");
        collector
    }
}

/// Removes the series whose `label` is a name that has none of its own any more.
pub(super) fn forget<B>(of: &MetricVec<B>, label: &str, names: &Names)
where
    B: MetricVecBuilder,
    MetricVec<B>: Collector,
    B::M: Metric,
{
    for family in of.collect() {
        for series in family.get_metric() {
            let labels: HashMap<_, _> =
                series.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
            if labels.get(label).is_some_and(|value| !names.has_label(value)) {
                // It may be gone already, which is what is wanted.
                let _ = of.remove(&labels);
            }
        }
    }
}
