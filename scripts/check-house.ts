/** Tidy, type check and lint, beside each other; says what each found. */
import { type ChildResult, PROGRAMS, runNode } from './run-child.ts'

/** True when all three are clean. */
export async function checkHouse(): Promise<boolean> {
  const checks = Object.entries(PROGRAMS).map(async ([name, args]) => {
    return { name, result: await runNode(args, 'collect') }
  })
  let clean = true
  for (const { name, result } of await Promise.all(checks)) {
    tell(name, result)
    clean &&= result.status === 0
  }
  return clean
}

function tell(name: string, { status, output }: ChildResult): void {
  if (status !== 0) process.stdout.write(output)
  console.log(`${status === 0 ? '✔' : '✖'} ${name}`)
}
