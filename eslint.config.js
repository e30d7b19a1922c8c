// The rules that a review would otherwise repeat. The clock rule is DESIGN §13: time and chance come in by the door.
import tseslint from 'typescript-eslint'

const clockDoor = 'time and chance come in by the door: take a Clock or Random from src/lib/clock.ts'
const clockGlobals = ['setTimeout', 'setInterval', 'setImmediate', 'clearTimeout', 'clearInterval'].map((name) => ({
  name,
  message: clockDoor,
}))
const clockProperties = [
  { object: 'Date', property: 'now', message: clockDoor },
  { object: 'Math', property: 'random', message: clockDoor },
  { object: 'crypto', property: 'randomUUID', message: clockDoor },
  { object: 'performance', property: 'now', message: clockDoor },
]
const clockImports = {
  paths: [
    { name: 'node:crypto', importNames: ['randomUUID', 'randomBytes'], message: clockDoor },
    { name: 'node:timers', message: clockDoor },
    { name: 'node:timers/promises', message: clockDoor },
  ],
}
const bareDate = { selector: "NewExpression[callee.name='Date'][arguments.length=0]", message: clockDoor }

export default tseslint.config(
  { ignores: ['dist/**', 'node_modules/**', 'test/fixtures/**'] },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.base],
    languageOptions: { parserOptions: { project: './tsconfig.json', tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: { arguments: false } }],
      '@typescript-eslint/await-thenable': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/only-throw-error': 'error',
      'no-debugger': 'error',
      eqeqeq: 'error',
      'prefer-const': 'error',
      'no-restricted-exports': ['error', { restrictDefaultExports: { direct: true } }],
      'max-depth': ['error', 4],
    },
  },
  {
    files: ['src/**/*.ts', 'agent/**/*.ts'],
    ignores: ['src/lib/clock.ts', 'src/bin/**', 'agent/main.ts', 'agent/shardhost/main.ts'],
    rules: {
      'no-restricted-globals': ['error', ...clockGlobals],
      'no-restricted-properties': ['error', ...clockProperties],
      'no-restricted-imports': ['error', clockImports],
      'no-restricted-syntax': ['error', bareDate],
    },
  },
  { files: ['vitest.config.ts'], rules: { 'no-restricted-exports': 'off' } },
)
