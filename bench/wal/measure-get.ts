/**
 * `npm run bench -- wal-get`: replay of the same WAL into copies of the same base, by the
 * restore_command that `tidemark restore` writes, by pgbackrest's asynchronous archive-get, by cp,
 * and with all of it in pg_wal from the beginning: what redo takes by itself, in turn.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { join } from 'node:path'
import { formatRestoreCommand } from '../../src/recovery/format-recovery-settings.ts'
import { formatSettings, openServerOn } from '../../test/harness/postgres-server.ts'
import { runChecked, runProgram } from '../../test/harness/run-program.ts'
import { median } from '../measure.ts'
import { runArchiver } from './measure-push.ts'
import { describeRun, type WalBenchOptions } from './options.ts'
import { runWalBench, type WalBench } from './run-wal-bench.ts'
import type { WalArchiver } from './tools.ts'
import { copyTree, type WalSet } from './wal-set.ts'

/** No restore_command: the segments are in pg_wal before the server starts. */
const REDO_ALONE = 'redo alone'

interface Contestant {
  readonly name: string
  readonly env: Readonly<Record<string, string>>
  restoreCommand(data: string): string
}

interface Sample {
  readonly tool: string
  readonly round: number
  /** From the start of the server to the end of redo, by its log. */
  readonly seconds: number
}

export async function measureGet(
  args: readonly string[],
  tell: (text: string) => void,
): Promise<string | undefined> {
  return await runWalBench(args, tell, measureReplays)
}

async function measureReplays(bench: WalBench): Promise<string> {
  const { options, directory, set, tell } = bench
  const contestants: Contestant[] = []
  for (const archiver of bench.tools) {
    await runArchiver(archiver, directory, set)
    contestants.push(fromArchiver(archiver))
    tell(`archived by ${archiver.name}`)
  }
  contestants.push({ name: 'cp', env: {}, restoreCommand: () => `cp ${set.wal}/%f "%p"` })
  contestants.push({ name: REDO_ALONE, env: {}, restoreCommand: () => 'false' })
  const samples: Sample[] = []
  for (let round = 0; round < options.pairs; round++) {
    const turn = round % contestants.length
    for (const one of [...contestants.slice(turn), ...contestants.slice(0, turn)]) {
      const seconds = await replay(one, directory, set)
      samples.push({ tool: one.name, round, seconds })
      tell(`${one.name}: ${seconds.toFixed(2)} s`)
    }
  }
  return await format(options, set, samples)
}

function fromArchiver(archiver: WalArchiver): Contestant {
  const { name, env } = archiver
  return {
    name,
    env,
    restoreCommand: (data) => {
      const command = archiver.get(data)
      return name === 'tidemark' ? formatRestoreCommand(command) : command
    },
  }
}

async function replay(one: Contestant, directory: string, set: WalSet): Promise<number> {
  const data = join(directory, 'replay')
  rmSync(data, { recursive: true, force: true })
  await copyTree(set.base, data)
  mkdirSync(join(data, 'pg_wal/archive_status'), { recursive: true })
  if (one.name === REDO_ALONE) await runChecked('cp', ['-rT', set.wal, join(data, 'pg_wal')])
  const settings = {
    archive_mode: 'off',
    restore_command: one.restoreCommand(data),
    recovery_target_timeline: '1',
    hot_standby: 'off',
  }
  writeFileSync(join(data, 'postgresql.auto.conf'), formatSettings(settings))
  writeFileSync(join(data, 'recovery.signal'), '')
  const owner = set.runAs === undefined ? '' : `${set.runAs.uid}:${set.runAs.gid}`
  if (owner !== '') await runChecked('chown', ['-R', owner, data])
  await runChecked('sync', [])
  const server = await openServerOn(data, {
    embedded: false,
    wait: 'none',
    env: one.env,
    settings: { fsync: 'on' },
  })
  try {
    for (;;) {
      const log = await server.log()
      if (/ready to accept connections/.test(log)) break
      if (!server.isRunning()) throw new Error(`${one.name}: replay ended\n${log}`)
      await sleep(50)
    }
    const [row] = await server.sql<{ number: number }>('SELECT number FROM mark', [], 'bench')
    if (row?.number !== 1) throw new Error(`${one.name} did not replay everything`)
    return redoSeconds(await server.log())
  } finally {
    await server.dispose()
  }
}

function redoSeconds(log: string): number {
  const at = (pattern: RegExp): number => {
    const line = log.split('\n').find((text) => pattern.test(text)) ?? ''
    return Date.parse(`${line.slice(0, 23).replace(' ', 'T')}Z`)
  }
  return (at(/redo done at/) - at(/starting PostgreSQL/)) / 1000
}

async function format(
  options: WalBenchOptions,
  set: WalSet,
  samples: readonly Sample[],
): Promise<string> {
  const names = ['tidemark', 'pgbackrest', 'cp', REDO_ALONE]
  const of = (tool: string): number[] =>
    samples.filter((sample) => sample.tool === tool).map(({ seconds }) => seconds)
  const ratio = (tool: string): string => {
    const ratios = of('tidemark').map((seconds, round) => seconds / (of(tool)[round] as number))
    return median(ratios).toFixed(2)
  }
  const targets: Readonly<Record<string, string>> = { pgbackrest: '≤ 1.00', cp: '≤ 0.80' }
  const rows = names.map((name) => {
    const own = of(name)
    const target = targets[name] === undefined ? '' : ` (target ${targets[name]})`
    const held = name === 'tidemark' ? '–' : `**${ratio(name)}**${target}`
    const seconds = `${median(own).toFixed(2)} (${Math.min(...own).toFixed(2)})`
    return `| ${name} | ${own.length} | ${seconds} | ${held} |\n`
  })
  const other = (await runProgram('pgbackrest', ['version'])).stdout.trim()
  const facts = [
    `${set.segments.length} segments of 16 MB of pgbench (scale ${options.scale}); PostgreSQL ${set.version}, shared_buffers 1 GB, fsync on`,
    `restore_command as \`tidemark restore\` writes it; ${other} asynchronous archive-get, process-max=2, archive-get-queue-max=256MiB, zst 3; \`cp\` from a directory`,
    'from the start of the server to the end of redo, by the log of the server',
    ...describeRun(options),
  ]
  return `## wal-get: replay of ${set.segments.length} segments

${facts.map((fact) => `- ${fact}\n`).join('')}
| restore_command | n | s, median (min) | tidemark's time over it, median of the rounds |
|---|---|---|---|
${rows.join('')}`
}
