/** `npm run bench`: prints one table; described in docs/operations.md. Never an assertion: machines are noisy. */
import { rmSync } from 'node:fs'
import { tempDir } from '../support/processes.ts'
import { benchFetch } from './fetch.ts'
import { benchGateway } from './gateway.ts'
import { benchHeaders } from './headers.ts'
import { load, machineRows } from './machine.ts'
import { benchPlan } from './plan.ts'
import { benchRecovery } from './recovery.ts'
import { printRows } from './stats.ts'
import { benchStartup } from './startup.ts'
import { benchWrites } from './writes.ts'

const dir = tempDir()
try {
  console.error('measuring plans, writes, the gateway, fetching and healing; about four minutes…')
  const machine = machineRows(dir, load())
  const control = [...benchPlan(), ...(await benchStartup(dir)), ...(await benchWrites(dir))]
  const serving = [...(await benchGateway()), ...(await benchHeaders()), ...(await benchFetch(dir))]
  const healing = await benchRecovery()
  printRows([...machine, ...control, ...serving, ...healing])
} finally {
  rmSync(dir, { recursive: true, force: true })
}
