import { defineConfig } from 'vitest/config'

/**
 * End-to-end files that mostly wait, for fake engines or for slow wires, so that two of them run beside each other. Those
 * that judge by a second or two are not among them (cli, shardhost/life).
 */
const patient = [
  'test/e2e/network.test.ts',
  'test/e2e/{authority,backup,change,dev,faults,hub,rpc,skew,store-kill,sync}.test.ts',
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
          exclude: patient,
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          name: 'e2e-patient',
          include: patient,
          maxWorkers: 2,
          testTimeout: 120_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
})
