/** What a dump is asked for, what it gives, and what its phases share. */
import type { BackupTarget, TargetReport } from '../backup/targets.ts'
import type { Progress } from '../base/progress.ts'
import type { ServerFacts } from '../postgres/server-session.ts'
import type { DumpRecord, ToolFormat } from '../repository/dump-record.ts'
import type { ClientTools } from './find-tools.ts'
import type { DumpSelection } from './selection.ts'
import type { Variables } from './tool-environment.ts'
import type { DumpWriter } from './write-dump.ts'

/** What is dumped, and how; wherever it goes. */
export interface DumpRequest {
  /** A PostgreSQL URL, password and all. */
  readonly connection: string
  /** `one`: the one that the connection goes to. */
  readonly databases: readonly string[] | 'all' | 'one'
  readonly globals: boolean
  /** Undefined: where every repository is encrypted. */
  readonly rolePasswords: boolean | undefined
  readonly format: ToolFormat
  /** Of the directory format: tables dumped at once. */
  readonly jobs: number
  readonly selection: DumpSelection
  /** Where the client tools are, if that is configured. */
  readonly toolDirectory: string | undefined
  /** Of this process, for what the tools need of it. */
  readonly environment: Variables
  /** Parent of the directory that the directory format needs for a while. */
  readonly temporaryDirectory: string
}

export interface TakeDumpOptions extends DumpRequest {
  /** In the order of the configuration. */
  readonly targets: readonly BackupTarget[]
  readonly cluster: string
  readonly labels: Readonly<Record<string, string>>
  /** Nothing is shared with earlier dumps. */
  readonly rewrite: boolean
}

export interface DumpResult {
  readonly record: DumpRecord
  /** Sentences for the person. */
  readonly notes: readonly string[]
  readonly targets: readonly TargetReport[]
}

/** Takes the files of a dump; one is open at a time. */
export interface DumpSink extends Pick<DumpWriter, 'openFile' | 'writeObjects'> {
  /** Takes a file that pg_dump has written as it is, if it can; `path` is gone then. */
  adoptFile?(path: string, name: string): Promise<number>
}

/** What the phases share. */
export interface DumpContext {
  readonly options: DumpRequest
  readonly server: ServerFacts
  readonly tools: ClientTools
  readonly selection: readonly string[]
  readonly databases: readonly string[]
  readonly rolePasswords: boolean
  readonly writer: DumpSink
  /** For pg_dump: how it compresses. */
  readonly compression: readonly string[]
  readonly notes: string[]
  readonly progress: Progress
  readonly signal: AbortSignal
}
