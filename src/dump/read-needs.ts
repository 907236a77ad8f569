/**
 * What the statements of a load need of the server: roles that own, get or lose privileges, and
 * tablespaces. Read out of the script that pg_restore writes for the very selection that is to
 * be loaded, without its rows. Pure.
 */
import { NAME, splitStatements, unquoteName } from './sql-text.ts'

export interface LoadNeeds {
  /** By role: what needs it, in the order of the script. */
  readonly roles: ReadonlyMap<string, readonly RoleUse[]>
  readonly tablespaces: ReadonlySet<string>
  /** `CREATE DATABASE … WITH …` as the dump has it; undefined where it was not asked for. */
  readonly createDatabase: string | undefined
}

export type RoleUse = 'owner' | 'privileges' | 'policy' | 'user mapping' | '--role'

export function readNeeds(script: string): LoadNeeds {
  const roles = new Map<string, RoleUse[]>()
  const tablespaces = new Set<string>()
  let createDatabase: string | undefined
  for (const statement of splitStatements(script)) {
    for (const [role, use] of rolesOf(statement)) {
      const uses = roles.get(role) ?? []
      if (!uses.includes(use)) uses.push(use)
      roles.set(role, uses)
    }
    const tablespace = SET_TABLESPACE.exec(statement)?.[1]
    if (tablespace !== undefined) tablespaces.add(unquoteName(tablespace))
    if (statement.startsWith('CREATE DATABASE ')) createDatabase = statement
  }
  return { roles, tablespaces, createDatabase }
}

const SET_TABLESPACE = new RegExp(`^SET default_tablespace = (${NAME})$`)

/**
 * The last words of a statement, behind what may hold anything. PUBLIC is in capitals, which no
 * name without quotes is.
 */
const ENDINGS: readonly (readonly [RegExp, RoleUse])[] = [
  [new RegExp(`^ALTER [\\s\\S]* OWNER TO (${NAME})$`), 'owner'],
  [
    new RegExp(
      `^GRANT [\\s\\S]* TO\\s+(?:GROUP )?(${NAME})(?: WITH GRANT OPTION)?(?: GRANTED BY ${NAME})?$`,
    ),
    'privileges',
  ],
  [new RegExp(`^REVOKE [\\s\\S]* FROM\\s+(?:GROUP )?(${NAME})(?: CASCADE)?$`), 'privileges'],
  [
    new RegExp(
      `^ALTER DEFAULT PRIVILEGES [\\s\\S]* (?:TO|FROM)\\s+(${NAME})(?: WITH GRANT OPTION)?$`,
    ),
    'privileges',
  ],
  [new RegExp(`^ALTER DEFAULT PRIVILEGES FOR ROLE (${NAME}) `), 'privileges'],
  [new RegExp(`^SET SESSION AUTHORIZATION (${NAME})$`), 'privileges'],
  [new RegExp(`^CREATE USER MAPPING FOR (${NAME}) SERVER `), 'user mapping'],
]

const POLICY = new RegExp(
  `^CREATE POLICY ${NAME} ON ${NAME}\\.${NAME}(?: AS RESTRICTIVE)?(?: FOR [A-Z]+)?` +
    ` TO (${NAME}(?:, ${NAME})*)`,
)

function* rolesOf(statement: string): Generator<readonly [string, RoleUse]> {
  for (const [ending, use] of ENDINGS) {
    const name = ending.exec(statement)?.[1]
    if (name !== undefined) yield [unquoteName(name), use]
  }
  const list = POLICY.exec(statement)?.[1]
  for (const name of list?.match(new RegExp(NAME, 'g')) ?? []) {
    yield [unquoteName(name), 'policy']
  }
}

/**
 * The same database under another name: `CREATE DATABASE old WITH …` with its encoding and
 * locale. Undefined where the statement does not begin as pg_dump writes it.
 */
export function renameDatabase(
  statement: string,
  to: string,
  options: { withTablespace: boolean },
): string | undefined {
  const match = new RegExp(`^CREATE DATABASE ${NAME}( WITH TEMPLATE = template0 [\\s\\S]*)$`).exec(
    statement,
  )
  if (match?.[1] === undefined) return undefined
  const rest = options.withTablespace
    ? match[1]
    : match[1].replace(new RegExp(` TABLESPACE = ${NAME}$`), '')
  return `CREATE DATABASE ${to}${rest}`
}
