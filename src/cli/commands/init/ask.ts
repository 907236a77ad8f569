/** Where the answers of `init` come from: options, else questions on a terminal. */
import { isAbsolute } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Failure } from '../../../base/failure.ts'
import { defaultSocketDirectory, findLocalServers } from '../../../postgres/local-servers.ts'
import { isClusterName } from '../../../repository/keys.ts'
import type { EncryptionConfiguration, S3Configuration } from '../../../config/configuration.ts'
import type { CommandContext } from '../../command-context.ts'

export interface InitOptions {
  readonly connection?: string
  readonly repository?: string
  readonly name?: string
  readonly configure?: boolean
  readonly yes?: boolean
  readonly region?: string
  readonly endpoint?: string
  readonly pathStyle?: boolean
  readonly accessKeyId?: string
  readonly secretAccessKey?: string
  readonly passphrase?: string
  readonly keyFile?: string
  readonly keyCommand?: string
}

export interface InitAnswers {
  readonly connection: string
  readonly repository: string
  readonly name: string
  readonly configure: boolean
  /** How an object store is reached, as far as options say it. */
  readonly s3?: S3Configuration
  /** Of an encrypted repository. */
  readonly encryption?: EncryptionConfiguration
}

const DEFAULT_NAME = 'main'
const DEFAULT_REPOSITORY = 'file:///var/lib/tidemark'

export async function settleAnswers(
  context: CommandContext,
  options: InitOptions,
): Promise<InitAnswers> {
  const s3 = readStoreOptions(options)
  const encryption = readEncryptionOptions(options)
  const answers = await settle(context, options)
  return {
    ...answers,
    ...(s3 === undefined ? {} : { s3 }),
    ...(encryption === undefined ? {} : { encryption }),
  }
}

/** What the options say of a key, for `key add` too. */
export function readEncryptionOptions(
  options: Pick<InitOptions, 'passphrase' | 'keyFile' | 'keyCommand'>,
): EncryptionConfiguration | undefined {
  const { passphrase, keyFile, keyCommand } = options
  const said = Object.entries({ passphrase, keyFile, keyCommand }).filter(
    ([, value]) => value !== undefined,
  )
  if (said.length === 0) return undefined
  if (said.length > 1) {
    throw new Failure('TM1001', {
      message: 'more than one key is given',
      because: 'a key is a passphrase, a key file or a key command',
      fix: 'leave all but one away; others are added with: tidemark key add',
    })
  }
  requireReference('--passphrase', passphrase)
  return Object.fromEntries(said)
}

const STORE_OPTIONS = ['region', 'endpoint', 'pathStyle', 'accessKeyId', 'secretAccessKey'] as const

/** A secret on the command line is seen by every user of the machine, and by its history. */
function requireReference(option: string, text: string | undefined): void {
  if (text === undefined || /^(file:|\$\{[^}]*\}$)/.test(text)) return
  throw new Failure('TM1001', {
    message: `${option} takes a reference, not the secret itself`,
    because: 'command lines can be read by others',
    fix: `name a file (file:/etc/tidemark/secret) or an environment variable ('\${NAME}')`,
  })
}

function readStoreOptions(options: InitOptions): S3Configuration | undefined {
  requireReference('--secret-access-key', options.secretAccessKey)
  const said = STORE_OPTIONS.flatMap((key) =>
    options[key] === undefined ? [] : [[key, options[key]] as const],
  )
  return said.length === 0 ? undefined : Object.fromEntries(said)
}

async function settle(context: CommandContext, options: InitOptions): Promise<InitAnswers> {
  const { connection, repository, name = DEFAULT_NAME, configure = false } = options
  const isComplete = connection !== undefined && repository !== undefined
  const canAsk = context.terminal.isInteractive && options.yes !== true && !context.json
  if (canAsk && !isComplete) return await ask(options)
  if (connection === undefined || repository === undefined) {
    throw missing(options, whyNotAsked(context, options))
  }
  return { connection, repository: asUrl(repository), name, configure }
}

/** A path is as good as its URL. */
function asUrl(repository: string): string {
  return isAbsolute(repository) ? pathToFileURL(repository).href : repository
}

function whyNotAsked(context: CommandContext, options: InitOptions): string {
  if (options.yes === true) return '--yes forbids to ask'
  return context.json ? 'with --json nothing is asked' : 'there is no terminal to ask on'
}

function missing(options: InitOptions, because: string): Failure {
  const names = [
    ...(options.connection === undefined ? ['--connection'] : []),
    ...(options.repository === undefined ? ['--repository'] : []),
  ]
  return new Failure('TM1001', {
    message: `init needs ${names.join(' and ')}`,
    because,
    fix: `for example:
      tidemark init --yes --connection '${suggestConnection()}' --repository ${DEFAULT_REPOSITORY}`,
  })
}

/** Of the first server that runs on this machine. */
function suggestConnection(): string {
  const [found] = findLocalServers()
  const port = found?.port ?? 5432
  const directory = found?.socketDirectory ?? defaultSocketDirectory(port)
  return `postgresql:///postgres?host=${directory}&port=${port}`
}

function refuseName(answer: string): string | undefined {
  return isClusterName(answer) ? undefined : '1 to 63 of a-z, 0-9, _ and -, beginning with a letter'
}

function refuseRepository(answer: string): string | undefined {
  const isPlace = isAbsolute(answer) || /^(file:\/\/\/|s3:\/\/)/.test(answer)
  return isPlace ? undefined : 'an absolute path, or a URL: file:///path, s3://bucket/prefix'
}

async function ask(options: InitOptions): Promise<InitAnswers> {
  const { confirm, intro, isCancel, outro, text } = await import('@clack/prompts')
  const settle = <T>(answer: T | symbol): Exclude<T, symbol> => {
    if (!isCancel(answer)) return answer as Exclude<T, symbol>
    // The prompt took Ctrl-C for itself: it ends the command as it does anywhere else.
    process.emit('SIGINT')
    throw new Failure('TM1001', { message: 'init was given up', fix: 'nothing was changed' })
  }
  const question = async (
    message: string,
    initialValue: string,
    refuse: (answer: string) => string | undefined = () => undefined,
  ): Promise<string> =>
    settle(await text({ message, initialValue, validate: (answer = '') => refuse(answer) }))
  intro('Protect a PostgreSQL cluster')
  const connection =
    options.connection ?? (await question('How is the server reached?', suggestConnection()))
  const repository =
    options.repository ??
    (await question('Where shall backups and WAL be kept?', DEFAULT_REPOSITORY, refuseRepository))
  const name =
    options.name ?? (await question('What is the cluster called?', DEFAULT_NAME, refuseName))
  const configure =
    options.configure ??
    settle(
      await confirm({
        message: 'Set the server up for archiving now (ALTER SYSTEM, reload)?',
        initialValue: false,
      }),
    )
  outro('Looking at the server')
  return { connection, repository: asUrl(repository), name, configure }
}
