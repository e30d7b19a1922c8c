import { defineConfig } from 'vitest/config'

/**
 * End-to-end files that start no real engine: they mostly wait, so that two of them run beside each other. Those that
 * judge by a second or two are not among them (cli, shardhost/life).
 */
const fakeEngines = [
  'test/e2e/{backup,change,dev,faults,hub,rpc,store-kill,sync}.test.ts',
  'test/e2e/agent/agent.test.ts',
  'test/e2e/chaos/chaos.test.ts',
  'test/e2e/shardhost/{adopt,door,gang}.test.ts',
]

/** Unit, script and simulation tests run side by side; e2e starts real processes and real engines, one file after the other. */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'fast',
          include: ['test/unit/**/*.test.ts', 'test/scripts/**/*.test.ts', 'test/sim/**/*.test.ts'],
          testTimeout: 30_000,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          exclude: fakeEngines,
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          name: 'e2e-fake',
          include: fakeEngines,
          maxWorkers: 2,
          testTimeout: 120_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
})
