/**
 * `npm run bench`: prints one table; described in docs/operations.md. Never an assertion: machines are noisy.
 * `npm run bench -- --only fetch,gateway` measures these parts.
 */
import { rmSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { tempDir } from '../support/processes.ts'
import { benchFetch } from './fetch.ts'
import { benchGateway } from './gateway.ts'
import { benchHeaders } from './headers.ts'
import { load, machineRows } from './machine.ts'
import { benchPlan } from './plan.ts'
import { benchRecovery } from './recovery.ts'
import type { Row } from './stats.ts'
import { printRows } from './stats.ts'
import { benchStartup } from './startup.ts'
import { benchWrites } from './writes.ts'

const parts: Readonly<Record<string, (dir: string) => Promise<Row[]> | Row[]>> = {
  plan: benchPlan,
  startup: benchStartup,
  writes: benchWrites,
  gateway: benchGateway,
  headers: benchHeaders,
  fetch: benchFetch,
  recovery: benchRecovery,
}

const { only } = parseArgs({ options: { only: { type: 'string' } } }).values
const names = only?.split(',') ?? Object.keys(parts)
const unknown = names.filter((name) => !Object.hasOwn(parts, name))
if (unknown.length > 0) {
  console.error(`there is no part ${unknown.join(', ')}; the parts are ${Object.keys(parts).join(', ')}`)
  process.exit(2)
}
const dir = tempDir()
try {
  console.error(`measuring ${names.join(', ')}${only === undefined ? '; about four minutes' : ''}…`)
  const rows = [...machineRows(dir, load())]
  for (const name of names) rows.push(...((await parts[name]?.(dir)) ?? []))
  printRows(rows)
} finally {
  rmSync(dir, { recursive: true, force: true })
}
