/**
 * Reads the command lines of `wal push` and `wal get` without the option parser. Pure.
 *
 * Invariant: what is not understood here is left (undefined) to the full parser, which
 * knows the same options and explains what is wrong.
 */
export interface WalArguments {
  readonly command: 'push' | 'get'
  /** PATH, or NAME and PATH. */
  readonly words: readonly string[]
  readonly config: string | undefined
  readonly cluster: string | undefined
  /** Decimal. */
  readonly systemIdentifier: string | undefined
  /** `wal get`: names of those to ask; undefined: all of the cluster. */
  readonly repositories: readonly string[] | undefined
  /** `wal get`: what a segment is that is missing while later ones are there. */
  readonly holes: 'fail' | 'absent'
  /** What PostgreSQL will ask for next is done as well. */
  readonly ahead: boolean
  /** `wal push`: write event indexes before it ends, once everything is durable. */
  readonly index: boolean
  /** `wal get`: be the filler that `--ahead` leaves behind; no option for people. */
  readonly fill: boolean
  /** `wal get --ahead`: the timeline that recovery goes to. */
  readonly timeline: number | undefined
  readonly json: boolean
  readonly quiet: boolean
  readonly verbose: boolean
}

const WORDS = { push: 1, get: 2 } as const
const FLAGS = ['--ahead', '--index', '--fill', '--json', '--quiet', '--verbose', '--progress']
const VALUES = [
  '--config',
  '--cluster',
  '--system-identifier',
  '--holes',
  '--repository',
  '--timeline',
]
const OF_GET = ['--holes', '--repository', '--timeline']

export function parseWalArguments(argv: readonly string[]): WalArguments | undefined {
  const split = splitArguments(argv)
  if (split === undefined) return undefined
  const { words, values, flags } = split
  const [group, command, ...rest] = words
  if (group !== 'wal' || (command !== 'push' && command !== 'get')) return undefined
  if (rest.length !== WORDS[command]) return undefined
  const holes = values.get('--holes') ?? 'fail'
  if (holes !== 'fail' && holes !== 'absent') return undefined
  if (command === 'push' && OF_GET.some((name) => values.has(name))) return undefined
  const systemIdentifier = values.get('--system-identifier')
  if (systemIdentifier !== undefined && !/^\d{1,20}$/.test(systemIdentifier)) return undefined
  if (command === 'push' && flags.has('--fill')) return undefined
  if (command === 'get' && flags.has('--index')) return undefined
  const timeline = values.get('--timeline')
  if (timeline !== undefined && !/^[1-9]\d{0,9}$/.test(timeline)) return undefined
  return {
    command,
    words: rest,
    config: values.get('--config'),
    cluster: values.get('--cluster'),
    systemIdentifier,
    repositories: values.get('--repository')?.split(','),
    holes,
    ahead: flags.has('--ahead'),
    index: flags.has('--index'),
    fill: flags.has('--fill'),
    timeline: timeline === undefined ? undefined : Number(timeline),
    json: flags.has('--json'),
    quiet: flags.has('--quiet'),
    verbose: flags.has('--verbose'),
  }
}

interface SplitArguments {
  readonly words: readonly string[]
  readonly values: ReadonlyMap<string, string>
  readonly flags: ReadonlySet<string>
}

function splitArguments(argv: readonly string[]): SplitArguments | undefined {
  const words: string[] = []
  const values = new Map<string, string>()
  const flags = new Set<string>()
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] as string
    if (!word.startsWith('-')) {
      words.push(word)
    } else if (FLAGS.includes(word)) {
      flags.add(word)
    } else {
      const equals = word.indexOf('=')
      const name = equals < 0 ? word : word.slice(0, equals)
      const value = equals < 0 ? argv[++at] : word.slice(equals + 1)
      if (!VALUES.includes(name) || value === undefined || value.startsWith('-')) return undefined
      values.set(name, value)
    }
  }
  return { words, values, flags }
}
