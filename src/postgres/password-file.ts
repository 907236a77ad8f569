/**
 * The password file of libpq (~/.pgpass): lines `host:port:database:user:password`, each
 * of the first four a literal or `*`, with `\:` and `\\` as escapes. The first line that
 * fits counts. PostgreSQL: libpq, passwordFromFile.
 */
import { readFile, stat } from 'node:fs/promises'

export interface PasswordQuestion {
  readonly host: string
  readonly port: number
  readonly database: string
  readonly user: string
}

/** The directories whose sockets libpq looks up as `localhost`. */
const DEFAULT_SOCKET_DIRECTORIES: readonly string[] = [
  '/var/run/postgresql',
  '/run/postgresql',
  '/tmp',
]

export function findPassword(text: string, question: PasswordQuestion): string | undefined {
  const isDefaultSocket = DEFAULT_SOCKET_DIRECTORIES.includes(question.host)
  const hosts = isDefaultSocket ? [question.host, 'localhost'] : [question.host]
  for (const line of text.split(/\r?\n/)) {
    if (line.startsWith('#')) continue
    const [host, port, database, user, password] = splitLine(line)
    if (password === undefined || host === undefined) continue
    const fits =
      (host === '*' || hosts.includes(host)) &&
      (port === '*' || port === String(question.port)) &&
      (database === '*' || database === question.database) &&
      (user === '*' || user === question.user)
    if (fits) return password
  }
  return undefined
}

/** Five fields; a password keeps colons that are not escaped. */
function splitLine(line: string): string[] {
  const fields: string[] = []
  let field = ''
  for (let at = 0; at < line.length; at++) {
    const isEscape = line[at] === '\\' && at + 1 < line.length
    if (line[at] === ':' && fields.length < 4) {
      fields.push(field)
      field = ''
    } else {
      field += isEscape ? line[++at] : line[at]
    }
  }
  return [...fields, field]
}

export type PasswordFileAnswer =
  | { readonly kind: 'found'; readonly password: string }
  | { readonly kind: 'not found'; readonly because: string }

/** Reads the file as libpq does: one that others may read is not used. */
export async function readPasswordFile(
  path: string,
  question: PasswordQuestion,
): Promise<PasswordFileAnswer> {
  try {
    const { mode } = await stat(path)
    if ((mode & 0o077) !== 0) {
      return { kind: 'not found', because: `${path} is readable by others, so it is not used` }
    }
    const password = findPassword(await readFile(path, 'utf8'), question)
    if (password !== undefined) return { kind: 'found', password }
    return { kind: 'not found', because: `${path} has no line for it` }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    return { kind: 'not found', because: `${path} cannot be read (${code})` }
  }
}
