/**
 * PostgreSQL starts `tidemark wal push` as the user that it runs as: that user must be able
 * to run the program, which is not so in a place that only root may enter.
 */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Failure } from '../../base/failure.ts'
import type { ServerUser } from './find-server.ts'

const run = promisify(execFile)

/** The path of `bin/tidemark`; TM1812 when the server's user cannot run it. */
export async function requireProgram(
  packageRoot: string,
  user: ServerUser | undefined,
  env: NodeJS.ProcessEnv,
): Promise<string> {
  const program = join(packageRoot, 'bin/tidemark')
  if (user === undefined) return program
  try {
    await run(program, ['--version'], { uid: user.uid, gid: user.gid, cwd: '/', env })
    return program
  } catch (cause) {
    throw new Failure('TM1812', {
      message: `the user ${user.name} cannot run ${program}`,
      because: `PostgreSQL does not run as root, so the demo runs it and its archive_command as ${user.name}`,
      fix: `put Tidemark and its Node.js where ${user.name} may read them, or run the demo as an ordinary user`,
      details: { program, user: user.name },
      cause,
    })
  }
}
