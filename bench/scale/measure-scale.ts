/**
 * `npm run bench -- --scale`: commands on synthetic repositories that grow. Wall time and
 * memory are taken from outside, requests from the command's own count.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { openStorage, type StorageSpecification } from '../../src/storage/open-storage.ts'
import { runProgram } from '../../test/harness/run-program.ts'
import { type S3Server, startS3Server, whyNoS3Server } from '../../test/harness/s3-server.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { installPackage } from '../install-package.ts'
import { type Measurement, measure, median } from '../measure.ts'
import { parseScaleOptions, type ScaleOptions } from './options.ts'
import type { Shape } from './synthetic-repository.ts'
import { writeToDirectory, writeToStorage } from './write-repository.ts'

interface ScaleCommand {
  readonly name: string
  readonly args: readonly string[]
  /** 3: findings, which a synthetic repository has. */
  readonly statuses?: readonly number[]
}

const COMMANDS: readonly ScaleCommand[] = [
  { name: 'list', args: ['list'] },
  { name: 'show', args: ['show', 'latest'] },
  { name: 'wal list', args: ['wal', 'list'] },
  { name: 'window', args: ['window'] },
  { name: 'status', args: ['status'] },
  { name: 'expire', args: ['expire'] },
  { name: 'verify plan', args: ['verify', '--budget', '1B'], statuses: [0, 3] },
]

interface Row {
  readonly shape: Shape
  readonly command: string
  readonly walls: readonly number[]
  readonly cpuSeconds: number
  readonly peakPssBytes: number
  readonly asked: string
}

export async function measureScale(
  args: readonly string[],
  tell: (text: string) => void,
): Promise<string | undefined> {
  const options = parseScaleOptions(args)
  const reason = options.store === 's3' ? whyNoS3Server() : undefined
  if (reason !== undefined) throw new Error(reason)
  const directory = temporaryDirectory(undefined, 'tidemark-scale-', options.directory)
  const server = options.store === 's3' ? await startS3Server() : undefined
  try {
    const program = await installPackage(join(directory, 'package'))
    const rows: Row[] = []
    const expires = chosen(options).some(({ name }) => name.startsWith('expire'))
    for (const shape of options.shapes) {
      const configuration = await makeRepository(directory, shape, server, expires, tell)
      const repository = { program, configuration, shape }
      for (const command of chosen(options)) {
        rows.push(await measureCommand(command, repository, options.repeats))
        tell(`${describeShape(shape)} ${command.name}`)
      }
      rmSync(join(directory, 'repository'), { recursive: true, force: true })
    }
    const section = await formatScale(options, rows)
    console.log(`\n${section}`)
    return options.dryRun ? undefined : section
  } finally {
    await server?.stop()
  }
}

function chosen({ commands }: ScaleOptions): readonly ScaleCommand[] {
  if (commands.length === 0) return COMMANDS
  return COMMANDS.filter(({ name }) => commands.includes(name))
}

/** Gives the path of a configuration of it. */
async function makeRepository(
  directory: string,
  shape: Shape,
  server: S3Server | undefined,
  expires: boolean,
  tell: (text: string) => void,
): Promise<string> {
  tell(`making ${describeShape(shape)}`)
  const specification = await placeOf(directory, server)
  const endsAt = new Date()
  let objects: number
  if (server === undefined) {
    objects = await writeToDirectory(join(directory, 'repository'), shape, endsAt)
  } else {
    const storage = await openStorage(specification)
    objects = await writeToStorage(storage, shape, endsAt)
    await storage.close()
  }
  tell(`${objects} objects`)
  const path = join(directory, 'tidemark.yaml')
  writeFileSync(path, configurationOf(directory, specification, expires), { mode: 0o600 })
  return path
}

async function placeOf(
  directory: string,
  server: S3Server | undefined,
): Promise<StorageSpecification> {
  if (server !== undefined) {
    return { url: `s3://${await server.createBucket()}/scale`, s3: server.settings }
  }
  mkdirSync(join(directory, 'repository'), { recursive: true })
  return { url: `file://${join(directory, 'repository')}` }
}

/** JSON is YAML. The server is not there: `status` is measured without it. */
function configurationOf(
  directory: string,
  { url, s3 }: StorageSpecification,
  expires: boolean,
): string {
  const connection = `postgresql:///postgres?host=${directory}`
  // Everything was backed up within a year: what expires is more than half of it.
  const retention = expires ? { retention: { window: '30d', daily: 60, monthly: 12 } } : {}
  return JSON.stringify({
    repositories: { measured: { url, ...s3 } },
    clusters: { main: { connection, repositories: ['measured'], ...retention } },
  })
}

interface MeasuredRepository {
  readonly program: string
  readonly configuration: string
  readonly shape: Shape
}

async function measureCommand(
  { name, args, statuses }: ScaleCommand,
  { program, configuration, shape }: MeasuredRepository,
  repeats: number,
): Promise<Row> {
  const all = ['--config', configuration, '--no-progress', ...args]
  const samples: Measurement[] = []
  for (let repeat = 0; repeat < repeats; repeat++) {
    const command = { program, args: all, runAs: undefined, env: {}, sampleMs: 25 }
    samples.push(await measure({ ...command, ...(statuses === undefined ? {} : { statuses }) }))
  }
  const counted = await runProgram(program, [...all, '--json', '--verbose'])
  const { storage = [] } = JSON.parse(counted.stdout) as { storage?: readonly Asked[] }
  return {
    shape,
    command: name,
    walls: samples.map(({ wallSeconds }) => wallSeconds),
    cpuSeconds: median(samples.map((sample) => sample.cpuSeconds)),
    peakPssBytes: Math.max(...samples.map(({ peakPssBytes }) => peakPssBytes)),
    asked: storage.map(describeAsked).join('; '),
  }
}

interface Asked {
  readonly calls: Readonly<Record<string, number>>
  readonly requests: Readonly<Record<string, number>>
}

function describeAsked({ calls, requests }: Asked): string {
  const asked = Object.keys(requests).length > 0 ? requests : calls
  return Object.entries(asked)
    .map(([name, count]) => `${name} ${count}`)
    .join(', ')
}

function describeShape({ backups, segments }: Shape): string {
  return `${backups} backups, ${segments} segments`
}

const HEAD =
  '| repository | command | wall s (min) | cpu s | peak PSS MiB | asked of it |\n|---|---|---|---|---|---|\n'

async function formatScale(options: ScaleOptions, rows: readonly Row[]): Promise<string> {
  const lines = rows.map(({ shape, command, walls, cpuSeconds, peakPssBytes, asked }) => {
    const wall = `${median(walls).toFixed(2)} (${Math.min(...walls).toFixed(2)})`
    const pss = (peakPssBytes / 2 ** 20).toFixed(0)
    const cells = [describeShape(shape), command, wall, cpuSeconds.toFixed(2), pss, asked]
    return `| ${cells.join(' | ')} |\n`
  })
  const [first] = options.shapes
  const packs = `${first?.packsAdded} packs added by each backup, ${first?.packsNamed} named`
  return (
    `## Scale, ${options.store}\n\n- repository: synthetic (bench/README.md), ${packs}\n` +
    `${await describeRun()}- run: ${options.repeats} repeats\n\n` +
    `${HEAD}${lines.join('')}`
  )
}

/** Of what, and on what, for RESULTS.md. */
export async function describeRun(): Promise<string> {
  const git = ['-C', import.meta.dirname, 'rev-parse', '--short', 'HEAD']
  const commit = (await runProgram('git', git)).stdout.trim()
  const memory = Math.round(totalmem() / 2 ** 30)
  const machine = `${cpus().length} × ${cpus()[0]?.model}, ${memory} GiB, Linux ${release()}`
  return `- commit: ${commit}\n- machine: ${machine}, Node.js ${process.version}\n`
}
