/**
 * `metrics`: what `status` and `wal status` know, for Prometheus. Monitoring must not fall silent
 * because a part is away: only wrong usage, a wrong configuration and a file that cannot be
 * written are failures here.
 */
import { resolve } from 'node:path'
import { replaceFile } from '../../archive/write-destination.ts'
import { now } from '../../base/clock.ts'
import { describeSystemError, Failure } from '../../base/failure.ts'
import { chooseCluster } from '../../config/configuration.ts'
import type { CommandContext } from '../command-context.ts'
import { readVersion } from '../run-command.ts'
import { formatMetrics, metricsJson } from './metrics/format-metrics.ts'
import { type Sample, sample } from './metrics/metric-table.ts'
import { readClusterMetrics } from './metrics/read-metrics.ts'
import { sampleCluster } from './metrics/sample-cluster.ts'

export interface MetricsOptions {
  readonly output?: string
}

export async function runMetrics(
  context: CommandContext,
  clusterName: string | undefined,
  { output }: MetricsOptions,
): Promise<number> {
  const samples = await collectSamples(context, clusterName)
  const { terminal, json } = context
  if (output !== undefined) await writeMetrics(context, output, await formatMetrics(samples))
  if (json) terminal.printJson(metricsJson(samples))
  else if (output === undefined) terminal.print((await formatMetrics(samples)).trimEnd())
  return 0
}

async function collectSamples(
  context: CommandContext,
  clusterName: string | undefined,
): Promise<Sample[]> {
  const configuration = context.configuration()
  const clusters =
    clusterName === undefined && configuration.clusters.size > 0
      ? [...configuration.clusters.values()]
      : [chooseCluster(configuration, clusterName)]
  const samples = sample('tidemark_build_info', { version: readVersion() }, 1)
  for (const cluster of clusters) {
    samples.push(...sampleCluster(await readClusterMetrics(context, cluster), now()))
  }
  return samples
}

/** The collector runs as another user, and there is no secret in it. */
const EVERYBODY_READS = 0o644

async function writeMetrics(context: CommandContext, output: string, text: string): Promise<void> {
  const path = resolve(output)
  if (!path.endsWith('.prom')) {
    context.terminal.remark(`${path}: the textfile collector reads only files that end in .prom`)
  }
  try {
    await replaceFile(path, Buffer.from(text), { durable: true, mode: EVERYBODY_READS })
  } catch (error) {
    throw new Failure('TM1484', {
      message: `the metrics cannot be written to ${path}`,
      because: describeSystemError(error),
      fix: 'create the directory, and let the user that runs this write there',
      details: { output: path },
      cause: error,
    })
  }
}
