/** `mctl dev` leaves nothing behind, even when its server was killed outright. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { Dev, endAll, removeDir } from '../support/processes.ts'
import { processesOf } from '../support/remains.ts'

afterAll(endAll)

test('a server that is killed takes dev with it, and its gateway too', async () => {
  const dev = await Dev.start({ nodes: 1, simulate: 'chip=Apple M4,memory=16Gi,gpuCores=10' })
  const record = join(dev.dir, 'server', 'gateway.json')
  const gateway = (JSON.parse(readFileSync(record, 'utf8')) as { pid: number }).pid
  expect(processesOf(dev.dir)).toContain(gateway)
  process.kill(Number(readFileSync(join(dev.dir, 'server', 'lock.pid'), 'utf8')), 'SIGKILL')
  expect(await dev.running.exited).toBe(1)
  expect(dev.running.log()).toContain('server was ended by SIGKILL')
  expect(processesOf(dev.dir)).toEqual([])
  removeDir(dev.dir)
})
