/**
 * Decides which statements of a `pg_dumpall --globals-only` script are run where some of its roles
 * and tablespaces are there already. Pure.
 *
 * Invariant: a role or tablespace that is there stays as it is, password and all; only
 * memberships are added to it.
 */
import { NAME, splitStatements, unquoteName } from './sql-text.ts'

export interface GlobalsPlan {
  /** In their order, each ready for psql. */
  readonly statements: readonly string[]
  readonly roles: { readonly created: readonly string[]; readonly kept: readonly string[] }
  readonly tablespaces: { readonly created: readonly string[]; readonly kept: readonly string[] }
}

const ROLE = new RegExp(
  `^(?:CREATE ROLE|ALTER ROLE|ALTER USER|COMMENT ON ROLE|SECURITY LABEL .* ON ROLE) (${NAME})(?:\\s|$)`,
)
const TABLESPACE = new RegExp(
  `^(?:CREATE TABLESPACE|ALTER TABLESPACE|COMMENT ON TABLESPACE|(?:GRANT|REVOKE) [\\s\\S]* ON TABLESPACE) (${NAME})(?:\\s|$)`,
)

export function planGlobals(
  script: string,
  there: { readonly roles: ReadonlySet<string>; readonly tablespaces: ReadonlySet<string> },
): GlobalsPlan {
  const statements: string[] = []
  const roles = { created: [] as string[], kept: [] as string[] }
  const tablespaces = { created: [] as string[], kept: [] as string[] }
  for (const statement of splitStatements(script)) {
    const role = nameIn(ROLE, statement)
    const tablespace = nameIn(TABLESPACE, statement)
    if (statement.startsWith('CREATE ROLE')) note(roles, role, there.roles)
    if (statement.startsWith('CREATE TABLESPACE')) note(tablespaces, tablespace, there.tablespaces)
    const isThere =
      (role !== undefined && there.roles.has(role)) ||
      (tablespace !== undefined && there.tablespaces.has(tablespace))
    if (isThere) continue
    statements.push(statement.startsWith('\\') ? statement : `${statement};`)
  }
  return { statements, roles, tablespaces }
}

function nameIn(pattern: RegExp, statement: string): string | undefined {
  const name = pattern.exec(statement)?.[1]
  return name === undefined ? undefined : unquoteName(name)
}

function note(
  list: { created: string[]; kept: string[] },
  name: string | undefined,
  there: ReadonlySet<string>,
): void {
  if (name === undefined) return
  const where = there.has(name) ? list.kept : list.created
  where.push(name)
}
