/** A URL of a server that stands among the arguments of a command. */
import { Failure } from '../base/failure.ts'
import { type ConnectionTarget, parseConnectionUrl } from '../postgres/connection-url.ts'

/** TM2100: a password in it. Everybody on the machine can read arguments. */
export function parseGivenUrl(option: string, url: string): ConnectionTarget {
  const given = parseConnectionUrl(url)
  if (given.password === undefined) return given
  throw new Failure('TM2100', {
    message: `${option} holds a password`,
    because: 'everybody on this machine can read the arguments of a process',
    fix: 'leave it out of the URL, and change it; have it in ~/.pgpass or in PGPASSWORD',
  })
}
