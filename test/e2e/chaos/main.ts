/** `npm run chaos -- --seconds N --seed S [--engine mlx] [--every SECONDS]`: chaos for as long as asked; exit code 1 when something did not hold. */
import { parseArgs } from 'node:util'
import { runChaos } from './chaos.ts'

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '300' },
    seed: { type: 'string', default: '1' },
    engine: { type: 'string', default: 'fake' },
    every: { type: 'string' },
  },
})
const engine = values.engine === 'mlx' ? 'mlx' : 'fake'
const findings = await runChaos({
  seconds: Number(values.seconds),
  seed: Number(values.seed),
  engine,
  ...(values.every === undefined ? {} : { everySeconds: Number(values.every) }),
  say: (line) => console.log(line),
})
for (const finding of findings) console.log(`FOUND ${finding}`)
console.log(findings.length === 0 ? 'everything held' : `${findings.length} findings`)
process.exit(findings.length === 0 ? 0 : 1)
