/**
 * `npm run bench`: Tidemark against Debian's pgbackrest on the same cluster, in pairs.
 * README.md of this folder says what is measured and what is not.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type PostgresServer, startPostgres } from '../test/harness/postgres-server.ts'
import { runProgram } from '../test/harness/run-program.ts'
import { serverUser } from '../test/harness/server-user.ts'
import { temporaryDirectory } from '../test/harness/temporary-directory.ts'
import { type Contestant, PgBackRest, Tidemark } from './contestant.ts'
import { formatResults, mergeSection } from './format-results.ts'
import { installPackage } from './install-package.ts'
import { makeWorkload, SETTINGS } from './make-workload.ts'
import { type BenchOptions, parseOptions } from './options.ts'
import { runPairs } from './run-pairs.ts'

const RESULTS = fileURLToPath(new URL('RESULTS.md', import.meta.url))
const begin = performance.now()

function tell(text: string): void {
  console.error(`${((performance.now() - begin) / 1000).toFixed(0).padStart(5)} s  ${text}`)
}

type Special = (
  args: readonly string[],
  tell: (text: string) => void,
) => Promise<string | undefined>

/** Benchmarks of their own, by the word that asks for them; each is loaded when it is. */
const SPECIALS: Readonly<Record<string, () => Promise<Special>>> = {
  'wal-push': async () => (await import('./wal/measure-push.ts')).measurePush,
  'wal-get': async () => (await import('./wal/measure-get.ts')).measureGet,
  'wal-read': async () => (await import('./wal/measure-read.ts')).measureRead,
  '--wal-receive': async () => (await import('./wal/measure-receive.ts')).measureReceive,
  '--dump': async () => (await import('./dump/measure-dump.ts')).measureDump,
  '--large': async () => (await import('./scale/measure-large.ts')).measureLarge,
  '--scale': async () => (await import('./scale/measure-scale.ts')).measureScale,
}

function findSpecial(args: readonly string[]): (() => Promise<Special>) | undefined {
  // With a number it is the scale of pgbench.
  const scaleAt = args.indexOf('--scale')
  const isScale = scaleAt >= 0 && !/^\d/.test(args[scaleAt + 1] ?? '')
  const word = args.find((one) => one in SPECIALS && (one !== '--scale' || isScale))
  return word === undefined ? undefined : SPECIALS[word]
}

async function main(): Promise<void> {
  const args = process.argv.slice(2)
  const special = findSpecial(args)
  if (special !== undefined) {
    const section = await (await special())(args, tell)
    if (section !== undefined) writeSection(section)
    return
  }
  const options = parseOptions(args)
  const hasOther = async (): Promise<boolean> =>
    (await runProgram('pgbackrest', ['version']).catch(() => undefined)) !== undefined
  if (!options.encrypted && !(await hasOther())) {
    throw new Error('pgbackrest is not installed: apt-get install pgbackrest')
  }
  if (options.cold && process.getuid?.() !== 0) throw new Error('--cold needs root (drop_caches)')
  const directory = temporaryDirectory(serverUser(), 'tidemark-bench-', options.directory)
  tell(`building the ${options.set} set, scale ${options.scale}, in ${directory}`)
  await using server = await startPostgres({
    embedded: false,
    settings: SETTINGS,
    directory: join(directory, 'data'),
  })
  await makeWorkload(server, options.set, options.scale)
  const program = await installPackage(join(directory, 'package'))
  const contestants = chooseContestants(options, server, directory, program)
  const { set, cold, cases } = options
  const plan = { server, contestants, set, cases, rounds: options.pairs, cold, directory, tell }
  const samples = await runPairs(plan)
  const [version] = await server.sql<{ version: string }>('SELECT version()')
  const [size] = await server.sql<{ size: string }>(
    'SELECT pg_size_pretty(sum(pg_database_size(oid))) AS size FROM pg_database',
  )
  const facts = [
    ['cluster', `${size?.size}; ${version?.version.replace(/ on .*/, '')}`] as const,
    ...(await describeTools(contestants)),
    ...describeMachine(options),
  ]
  const shown = facts.map(
    ([label, value]) => [label, value.replaceAll(directory, 'BENCH')] as const,
  )
  const [ours, theirs] = contestants
  const tools = [ours.name, theirs.name] as const
  const section = formatResults({ title: titleOf(options), facts: shown, tools }, samples)
  console.log(`\n${section}`)
  if (!options.dryRun) writeSection(section)
}

function chooseContestants(
  { encrypted }: BenchOptions,
  server: PostgresServer,
  directory: string,
  program: string,
): [Contestant, Contestant] {
  if (encrypted) {
    return [
      new Tidemark(server, join(directory, 'encrypted'), program, 'encrypted'),
      new Tidemark(server, join(directory, 'plain'), program, 'plain'),
    ]
  }
  return [
    new Tidemark(server, join(directory, 'tidemark'), program),
    new PgBackRest(server, join(directory, 'pgbackrest')),
  ]
}

function titleOf(options: BenchOptions): string {
  const cache = options.cold ? 'cold cache' : 'warm cache'
  const kind = options.encrypted ? ', encrypted and not' : ''
  return `Set ${options.set}, scale ${options.scale}, ${cache}${kind}`
}

async function describeTools(contestants: readonly Contestant[]): Promise<[string, string][]> {
  const facts: [string, string][] = []
  for (const contestant of contestants) {
    const name = contestant.name
    facts.push([name, await contestant.version()])
    const show = ({ program, args }: { program: string; args: readonly string[] }): string =>
      `\`${[program.replace(/^.*\//, ''), ...args].join(' ')}\``
    facts.push([`${name} backup`, show(contestant.full())])
    facts.push([`${name} restore`, show(contestant.restore('DIR'))])
  }
  const commit = await runProgram('git', [
    '-C',
    import.meta.dirname,
    'rev-parse',
    '--short',
    'HEAD',
  ])
  facts.push(['commit', commit.stdout.trim() || 'unknown'])
  return facts
}

function describeMachine(options: BenchOptions): [string, string][] {
  const processors = cpus()
  const memory = Math.round(totalmem() / 2 ** 30)
  return [
    [
      'machine',
      `${processors.length} × ${processors[0]?.model}, ${memory} GiB, Linux ${release()}`,
    ],
    ['run', `${options.pairs} alternated pairs, Node.js ${process.version}`],
  ]
}

const PREFACE = `# Results of \`npm run bench\`

Written by the benchmark (bench/README.md). Ratios travel between machines, seconds do not.
`

function writeSection(section: string): void {
  const document = existsSync(RESULTS) ? readFileSync(RESULTS, 'utf8') : PREFACE
  writeFileSync(RESULTS, mergeSection(document, section))
  tell(`written to ${RESULTS}`)
}

await main()
