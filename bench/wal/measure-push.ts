/**
 * `npm run bench -- wal-push`: a backlog of ready segments, archived as PostgreSQL's archiver does
 * it: one call of archive_command after the other, each `.ready` renamed to `.done`. Tidemark
 * beside pgbackrest's asynchronous archive-push, both with two threads or processes, in pairs.
 */
import { linkSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runChecked, runProgram } from '../../test/harness/run-program.ts'
import { type Measurement, measure, median } from '../measure.ts'
import { describeRun, type WalBenchOptions } from './options.ts'
import { runWalBench, type WalBench } from './run-wal-bench.ts'
import type { WalArchiver } from './tools.ts'
import { copyTree, type WalSet } from './wal-set.ts'

/** As pgarch.c does it, in the data directory: sh for each file, and its status renamed. */
const ARCHIVER = `
my ($command, @names) = @ARGV;
for my $name (@names) {
  my $line = $command;
  $line =~ s/%p/pg_wal\\/$name/g;
  $line =~ s/%f/$name/g;
  system('sh', '-c', $line) == 0 or die "$name: status $?\\n";
  rename("pg_wal/archive_status/$name.ready", "pg_wal/archive_status/$name.done") or die $!;
}
`

interface Sample {
  readonly tool: string
  readonly measured: Measurement
  readonly stored: number
}

interface Measured {
  readonly samples: readonly Sample[]
  /** Peak in bytes, by tool. */
  readonly memory: ReadonlyMap<string, number>
}

const SAMPLE_MS = 100
const NEVER_MS = 2 ** 31 - 1

export async function measurePush(
  args: readonly string[],
  tell: (text: string) => void,
): Promise<string | undefined> {
  return await runWalBench(args, tell, measurePushes)
}

async function measurePushes(bench: WalBench): Promise<string> {
  const { options, directory, set, program, tools, tell } = bench
  const samples: Sample[] = []
  // Sampling holds up what it looks at, and the larger process more: memory has a run of its own.
  const memory = new Map<string, number>()
  for (const tool of tools) {
    const { measured } = await runArchiver(tool, directory, set, SAMPLE_MS)
    memory.set(tool.name, measured.peakPssBytes)
  }
  for (let round = 0; round < options.pairs; round++) {
    const order = round % 2 === 0 ? tools : [...tools].reverse()
    for (const tool of order) {
      const sample = await runArchiver(tool, directory, set)
      samples.push(sample)
      const { wallSeconds, cpuSeconds } = sample.measured
      tell(
        `${tool.name}: ${(set.segments.length / wallSeconds).toFixed(1)} segments/s, ` +
          `${((cpuSeconds * 1000) / set.segments.length).toFixed(1)} ms of CPU each`,
      )
    }
  }
  return await format(options, set, program, { samples, memory })
}

/** Archives the whole set, and measures it. */
export async function runArchiver(
  tool: WalArchiver,
  directory: string,
  set: WalSet,
  sampleMs = NEVER_MS,
): Promise<Sample> {
  const data = join(directory, 'push')
  rmSync(data, { recursive: true, force: true })
  await copyTree(set.base, data)
  const status = join(data, 'pg_wal/archive_status')
  mkdirSync(status, { recursive: true })
  for (const name of set.segments) {
    linkSync(join(set.wal, name), join(data, 'pg_wal', name))
    writeFileSync(join(status, `${name}.ready`), '')
  }
  // Something must have started the server, as far as Tidemark is concerned.
  writeFileSync(join(data, 'postmaster.pid'), `${process.pid}\n${data}\n`)
  await runChecked('chown', ['-R', ownerOf(set), data])
  const command = await tool.prepare(data)
  await runChecked('sync', [])
  const measured = await measure({
    program: 'perl',
    args: ['-e', `chdir '${data}' or die; ${ARCHIVER}`, command, ...set.segments],
    runAs: set.runAs,
    env: tool.env,
    sampleMs,
  })
  const left = readdirSync(status).filter((name) => name.endsWith('.ready'))
  if (left.length > 0) throw new Error(`${left.length} segments were not archived`)
  const { stdout } = await runChecked('du', ['-sb', tool.repository])
  return { tool: tool.name, measured, stored: Number.parseInt(stdout, 10) }
}

function ownerOf({ runAs }: WalSet): string {
  return runAs === undefined ? String(process.getuid?.()) : `${runAs.uid}:${runAs.gid}`
}

async function format(
  options: WalBenchOptions,
  set: WalSet,
  program: string,
  { samples, memory }: Measured,
): Promise<string> {
  const count = set.segments.length
  const row = (name: string): string => {
    const own = samples.filter(({ tool }) => tool === name)
    const rates = own.map(({ measured }) => count / measured.wallSeconds)
    const cpu = own.map(({ measured }) => (measured.cpuSeconds * 1000) / count)
    const stored = own.map((sample) => sample.stored / count / 1000)
    const cells = [
      name,
      String(own.length),
      `${median(rates).toFixed(1)} (${Math.max(...rates).toFixed(1)})`,
      median(cpu).toFixed(1),
      ((memory.get(name) ?? 0) / 2 ** 20).toFixed(0),
      median(stored).toFixed(0),
    ]
    return `| ${cells.join(' | ')} |\n`
  }
  const ratios = Array.from({ length: options.pairs }, (_, round) => {
    const pair = samples.slice(round * 2, round * 2 + 2)
    const wall = (name: string): number =>
      pair.find(({ tool }) => tool === name)?.measured.wallSeconds ?? Number.NaN
    return wall('pgbackrest') / wall('tidemark')
  })
  const other = (await runProgram('pgbackrest', ['version'])).stdout.trim()
  const facts = [
    `${count} segments of 16 MB of pgbench (scale ${options.scale}), all ready; PostgreSQL ${set.version}`,
    `${program.replace(/.*\//, '')} \`wal push --ahead\`; ${other} asynchronous, process-max=2, zst 3`,
    ...describeRun(options),
  ]
  return `## wal-push: ${count} ready segments

${facts.map((fact) => `- ${fact}\n`).join('')}
| tool | n | segments/s, median (best) | ms of CPU per segment | peak PSS MiB | kB per segment |
|---|---|---|---|---|---|
${row('tidemark')}${row('pgbackrest')}
Rate over that of pgbackrest, median of the pairs: **${median(ratios).toFixed(2)}** (target ≥ 1.50)
`
}
