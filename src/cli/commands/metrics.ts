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
import type { Terminal } from '../terminal.ts'
import { formatMetrics, metricsJson } from './metrics/format-metrics.ts'
import { sample } from './metrics/metric-table.ts'
import { type ClusterReading, readClusterMetrics } from './metrics/read-metrics.ts'
import { sampleCluster } from './metrics/sample-cluster.ts'

export interface MetricsOptions {
  readonly output?: string
  readonly timeout?: string
}

export async function runMetrics(
  context: CommandContext,
  clusterName: string | undefined,
  { output, timeout }: MetricsOptions,
): Promise<number> {
  const readings = await readAll(context, clusterName, parseTimeout(timeout))
  const samples = [
    ...sample('tidemark_build_info', { version: readVersion() }, 1),
    ...readings.flatMap((reading) => sampleCluster(reading, now())),
  ]
  const { terminal, json } = context
  if (output !== undefined) await writeMetrics(context, output, await formatMetrics(samples))
  if (json) terminal.printJson(metricsJson(samples))
  else if (output === undefined) terminal.print((await formatMetrics(samples)).trimEnd())
  for (const remark of readings.flatMap(({ remarks }) => remarks)) terminal.remark(remark)
  if (readings.some(({ isLate }) => isLate)) await leaveLate(terminal)
  return 0
}

/** What still waits for an answer would keep the process, and the next run of a timer with it. */
async function leaveLate(terminal: Terminal): Promise<void> {
  await terminal.flush()
  process.exit(0)
}

const DEFAULT_TIMEOUT = '60'

function parseTimeout(text = DEFAULT_TIMEOUT): number {
  if (/^[1-9]\d{0,4}$/.test(text)) return Number(text) * 1000
  throw new Failure('TM1001', {
    message: `--timeout '${text}' is not a number of seconds`,
    fix: 'give whole seconds from 1 on: --timeout 60',
  })
}

async function readAll(
  context: CommandContext,
  clusterName: string | undefined,
  limitMs: number,
): Promise<ClusterReading[]> {
  const configuration = context.configuration()
  const clusters =
    clusterName === undefined && configuration.clusters.size > 0
      ? [...configuration.clusters.values()]
      : [chooseCluster(configuration, clusterName)]
  const readings: ClusterReading[] = []
  for (const cluster of clusters) {
    readings.push(await readClusterMetrics(context, cluster, limitMs))
  }
  return readings
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
