/** Samples in the text exposition format of Prometheus, by its client library. */
import { Gauge, Registry } from 'prom-client'
import { METRIC_NAMES, METRICS, type Sample } from './metric-table.ts'

/** Metrics without a sample are left out. */
export async function formatMetrics(samples: readonly Sample[]): Promise<string> {
  const registry = new Registry()
  for (const name of METRIC_NAMES) {
    const own = samples.filter((one) => one.name === name)
    if (own.length === 0) continue
    const { help, labels } = METRICS[name]
    const gauge = new Gauge({ name, help, labelNames: [...labels], registers: [registry] })
    for (const { labels: values, value } of own) gauge.set({ ...values }, value)
  }
  return await registry.metrics()
}

/** As the text has them: JSON knows no infinity. Pure. */
export function metricsJson(samples: readonly Sample[]): Record<string, unknown> {
  const metrics = samples.map(({ name, labels, value }) => {
    return { name, labels, value: Number.isFinite(value) ? value : '+Inf' }
  })
  return { metrics }
}
